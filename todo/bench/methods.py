"""The methods that are measured: each puts itself on a UNet for one run, and takes itself off.

Their names are those of the table, of the JSON and of the option `--compare`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from todo import Patch, Settings, SettingsError, patched
from todo.downsample import kept_size
from todo.families import FAMILIES
from todo.plan import LATENT_SCALE
from todo.settings import KNOBS
from todo.unet import SelfAttention, find_self_attention

DENSE, LIMIT = "dense", "limit"

_TRAINED_SIDE = 512
"""Pixels per side that SD1.5 was trained on; the authors' factor keeps as many keys/values as that has tokens."""

_TILE, _SMALLEST_TILE = 256, 128
"""Pixels per side of HyperTile's tiles by default, and at least, where the picture's sides want smaller ones."""

_STEPS = 1000
"""Steps of the run that single calls are pretended to belong to: so many that all rounds lie at the beginning of the
settings' step window, where the plan looks, while the phase turns from round to round."""


@dataclass(frozen=True)
class Picture:
    """What the UNet is called for: width and height in pixels, and the model's family."""

    width: int
    height: int
    family: str

    @property
    def size(self) -> tuple[int, int]:
        return self.width, self.height


Switch = Callable[[nn.Module, Picture], AbstractContextManager[Patch | None]]
"""Puts a method on a UNet for the length of a `with` block; gives ToDo's patch, None where there is none."""


@dataclass(frozen=True)
class Method:
    """A way of computing a UNet's self-attention. `about` says in one line what it does; `settings` gives those of
    ToDo for a picture, None for the methods of others."""

    name: str
    about: str
    on: Switch
    settings: Callable[[Picture], Settings] | None = None


def todo_method(settings: Settings) -> Method:
    """ToDo with the same settings at every size, named by those that differ from the defaults."""
    label = settings_label(settings)
    name = "ToDo" if label == "default" else f"ToDo {label}"
    return Method(name, f"ToDo, settings: {label}", partial(_todo, lambda _: settings), lambda _: settings)


def settings_label(settings: Settings) -> str:
    """The settings of its mode that differ from the defaults, in short; in manual mode the factor in any case, which
    tells the mode."""
    values = settings.to_dict()
    acting = [name for name, knob in KNOBS.items() if name != "mode" and knob.mode in (None, settings.mode)]
    shown = [name for name in acting if name == "factor" or values[name] != KNOBS[name].default]
    return ", ".join(f"{name.replace('_', ' ')} {_plain(values[name])}" for name in shown) or "default"


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def paper_settings(picture: Picture) -> Settings:
    """The authors' factors, 2 for 1024², 3 for 1536² and 4 for 2048², and so on in proportion to the longer side, at
    the finest level, the same tokens at every step.

    Source: the authors' demonstration for SD1.5; the paper's section 3 has the method.
    """
    factor = max(picture.size) / _TRAINED_SIDE
    highest = KNOBS["factor"].maximum
    return Settings(mode="manual", factor=min(max(factor, 1.0), highest), phase="fixed")


def tiles(side: int, least: int) -> int:
    """Into how many equal tiles HyperTile splits `side` tokens: the most that are no shorter than `least`."""
    return max((count for count in range(1, side // least + 1) if side % count == 0), default=1)


def tile_pixels(picture: Picture) -> int:
    """Pixels per side of HyperTile's tiles: the largest power of two that divides both of the picture's sides, within
    its bounds."""
    common = math.gcd(*picture.size)
    return max(min(common & -common, _TILE), _SMALLEST_TILE)


def place(patch: Patch | None, number: int = 0) -> None:
    """Tells ToDo's patch, if there is one, where a single call stands: at the beginning of its step window, and
    `number` steps on."""
    if patch:
        patch.at(math.ceil(patch.settings.start * _STEPS) + number, _STEPS)


@contextmanager
def _dense(unet: nn.Module, picture: Picture) -> Iterator[None]:
    yield None


@contextmanager
def _todo(settings: Callable[[Picture], Settings], unet: nn.Module, picture: Picture) -> Iterator[Patch]:
    with patched(unet, settings(picture)) as patch:
        yield patch


def _limit(unet: nn.Module, picture: Picture) -> AbstractContextManager[None]:
    return keep_one(unet)


@contextmanager
def keep_one(unet: nn.Module) -> Iterator[None]:
    """One key/value token, the first, in every self-attention outside the middle block."""

    def keep_first(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (args[0][:, :1],)

    blocks = find_self_attention(unet)
    with _hooks(projection.register_forward_pre_hook(keep_first) for projection in _projections(blocks)):
        yield None


@contextmanager
def _reference(unet: nn.Module, picture: Picture) -> Iterator[None]:
    """The authors' factors at the finest level by permute, interpolate and permute, for keys and for values anew."""
    factor = paper_settings(picture).factor
    blocks = [block for block in find_self_attention(unet) if block.resolution == 1]
    with _Grids(blocks) as grids, ExitStack() as stack:
        for block in blocks:
            stack.enter_context(_interpolating(block, grids, factor))
        yield None


@contextmanager
def _interpolating(block: SelfAttention, grids: _Grids, factor: float) -> Iterator[None]:
    def shrink(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (_interpolated(args[0], grids[block.transformer], factor),)

    with _hooks(projection.register_forward_pre_hook(shrink) for projection in _projections([block])):
        yield None


def _interpolated(tokens: Tensor, grid: tuple[int, int], factor: float) -> Tensor:
    """Tokens (batch, h·w, channels) on a grid smaller by `factor` per side."""
    image = tokens.unflatten(1, grid).permute(0, 3, 1, 2)
    small = functional.interpolate(image, size=[kept_size(side, factor) for side in grid], mode="nearest")
    return small.permute(0, 2, 3, 1).flatten(1, 2)


def _tomesd(ratio: float, unet: nn.Module, picture: Picture) -> AbstractContextManager[None]:
    """At the model's finest self-attention, which on SDXL the package's default does not reach."""
    return merged(unet, ratio, max_downsample=2 ** FAMILIES[picture.family].finest)


@contextmanager
def merged(unet: nn.Module, ratio: float, max_downsample: int = 1, stride: int = 2) -> Iterator[None]:
    """Token merging by the package tomesd itself.

    Args:
        ratio: share of the tokens that is merged away, at most 1 − 1 / stride².
        max_downsample: the deepest level, counted from the latent.
        stride: side of the cells of which one token each is never merged; 2 is the package's default.
    """
    import tomesd

    model = unet if hasattr(unet, "down_blocks") else _Wrapped(unet)
    tomesd.apply_patch(model, ratio=ratio, max_downsample=max_downsample, sx=stride, sy=stride)
    try:
        yield None
    finally:
        tomesd.remove_patch(model)
        for module in unet.modules():
            vars(module).pop("_tome_info", None)


@contextmanager
def _hypertile(unet: nn.Module, picture: Picture) -> Iterator[None]:
    """HyperTile at its defaults, but always with the most tiles, where it draws lots among three numbers of them.

    A level's tiles are as many tokens larger as its grid is coarser, so that deeper levels are tiled only in very
    large pictures, and the middle block in none that are measured here.

    Source: AUTOMATIC1111's built-in extension hypertile, version 1.10.
    """
    tokens = tile_pixels(picture) // LATENT_SCALE
    with tiled({block: tokens * block.resolution for block in find_self_attention(unet)}):
        yield None


@contextmanager
def tiled(least: dict[SelfAttention, int]) -> Iterator[None]:
    """Blocks attend within tiles: as many as fit that are no shorter than `least` tokens per side, by block."""
    with _Grids(least) as grids, ExitStack() as stack:
        for block, tokens in least.items():
            stack.enter_context(_tiled(block, grids, tokens))
        yield None


@contextmanager
def _tiled(block: SelfAttention, grids: _Grids, least: int) -> Iterator[None]:
    """One block attends tile by tile; a tile has at least `least` tokens per side."""

    def counts() -> tuple[tuple[int, int], tuple[int, int]]:
        grid = grids[block.transformer]
        return grid, (tiles(grid[0], least), tiles(grid[1], least))

    def split(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        grid, (down, across) = counts()
        # (batch, rows of tiles, rows in a tile, columns of tiles, columns in a tile, channels)
        parts = args[0].unflatten(1, (down, grid[0] // down, across, grid[1] // across))
        return (parts.transpose(2, 3).flatten(3, 4).flatten(0, 2), *args[1:])

    def join(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        grid, (down, across) = counts()
        parts = output.unflatten(0, (-1, down, across)).unflatten(3, (grid[0] // down, grid[1] // across))
        return parts.transpose(2, 3).flatten(1, 4)

    attention = block.attention
    with _hooks([attention.register_forward_pre_hook(split), attention.register_forward_hook(join)]):
        yield None


class _Wrapped(nn.Module):
    """Holds a UNet where tomesd looks for ldm's: in .model.diffusion_model."""

    def __init__(self, unet: nn.Module):
        super().__init__()
        self.model = nn.Module()
        self.model.diffusion_model = unet


class _Grids(dict[nn.Module, tuple[int, int]]):
    """The present token grid (h, w) of each spatial transformer, while the `with` block lasts."""

    def __init__(self, blocks: Iterable[SelfAttention]):
        super().__init__()
        self._transformers = {block.transformer for block in blocks}
        self._stack = ExitStack()

    def __enter__(self) -> _Grids:
        self._stack.enter_context(_hooks(each.register_forward_pre_hook(self._remember) for each in self._transformers))
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    def _remember(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self[module] = (args[0].shape[-2], args[0].shape[-1])


def _projections(blocks: Sequence[SelfAttention]) -> Iterator[nn.Module]:
    for block in blocks:
        attention: Any = block.attention
        yield from (attention.to_k, attention.to_v)


@contextmanager
def _hooks(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    held = list(handles)
    try:
        yield
    finally:
        for handle in held:
            handle.remove()


_METHODS = (
    Method(DENSE, "the UNet as it is", _dense),
    todo_method(Settings()),
    todo_method(Settings(grid=32)),
    todo_method(Settings(grid=16)),
    Method(
        "ToDo paper", "ToDo with the authors' factor: longer side / 512", partial(_todo, paper_settings), paper_settings
    ),
    Method("reference", "the authors' factor by permute, interpolate and permute, for keys and for values", _reference),
    Method("tomesd 0.5", "token merging by the package tomesd, ratio 0.5", partial(_tomesd, 0.5)),
    Method("tomesd 0.75", "token merging by the package tomesd, ratio 0.75", partial(_tomesd, 0.75)),
    Method("HyperTile", "attention within tiles of 256 pixels, HyperTile's default", _hypertile),
    Method(LIMIT, "one key/value token in every self-attention outside the middle block", _limit),
)  # fmt: skip

METHODS = {method.name: method for method in _METHODS}
"""Every method but those made from settings on the command line, by name."""

GRID_32 = "ToDo grid 32"
"""At most 32 keys/values per side at the finest level, half as many from level to level."""

CLOSE = (GRID_32, "ToDo grid 16", LIMIT)
"""The methods close to the limit, with the limit itself."""


def check_names(names: Iterable[str], known: Collection[str]) -> None:
    """Raises SettingsError for a name to be compared that is none of the known ones."""
    for name in names:
        if name not in known:
            raise SettingsError("compare", f"compare: {name!r} is not allowed; it must be one of {', '.join(known)}")
