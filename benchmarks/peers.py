"""What others do to self-attention, each put on a UNet for the length of a `with` block: token merging, tiles, the
authors' reference implementation, and a single key as the limit of all."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from benchmarks.method import Size
from todo.downsample import kept_size
from todo.unet import SelfAttention, find_self_attention

_TILE, _SMALLEST_TILE = 32, 16
"""HyperTile's tiles, in latent positions per side: 256 pixels by default, and at least 128 where the image's sides
call for smaller ones."""


@contextmanager
def one_key(unet: nn.Module) -> Iterator[None]:
    """One key/value token, the first, in every self-attention outside the middle block."""

    def keep_first(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (args[0][:, :1],)

    blocks = find_self_attention(unet)
    with _hooks(projection.register_forward_pre_hook(keep_first) for projection in _projections(blocks)):
        yield None


@contextmanager
def reference(unet: nn.Module, factor: float) -> Iterator[None]:
    """Keys and values of the finest level downsampled by permute, interpolate and permute, once for each of the two.

    Source: the authors' implementation, ethansmith2000/ImprovedTokenMerge.
    """
    blocks = finest(unet)
    with _Grids(blocks) as grids, ExitStack() as stack:
        for block in blocks:
            stack.enter_context(_interpolating(block, grids, factor))
        yield None


@contextmanager
def token_merging(unet: nn.Module, ratio: float, stride: int = 2) -> Iterator[None]:
    """Token merging by the package tomesd, at the UNet's finest self-attention. On SDXL its own default reaches none.

    Args:
        ratio: share of the tokens that is merged away, at most 1 − 1 / stride².
        stride: side of the cells of which one token each is never merged; 2 is the package's default.
    """
    import tomesd

    model = unet if hasattr(unet, "down_blocks") else _Wrapped(unet)
    tomesd.apply_patch(model, ratio=ratio, max_downsample=_finest_downsampling(unet), sx=stride, sy=stride)
    try:
        yield None
    finally:
        tomesd.remove_patch(model)
        for module in unet.modules():
            vars(module).pop("_tome_info", None)


@contextmanager
def hypertile(unet: nn.Module, latent: Size) -> Iterator[None]:
    """HyperTile at its defaults, but always with the most tiles, where HyperTile draws one of three numbers at random.

    A level's tiles have as many more tokens as its grid is coarser. So deeper levels are tiled only in very large
    images, and the middle block in none that are measured here.

    Source: AUTOMATIC1111's built-in extension hypertile, version 1.10.
    """
    tokens = tile_side(latent)
    with tiled({block: tokens * block.resolution for block in find_self_attention(unet)}):
        yield None


def tile_side(latent: Size) -> int:
    """The side of HyperTile's tiles in latent positions: the largest power of two that divides both sides of the
    latent, within HyperTile's bounds."""
    common = math.gcd(*latent)
    return max(min(common & -common, _TILE), _SMALLEST_TILE)


def tile_count(side: int, least: int) -> int:
    """Into how many equal tiles HyperTile splits `side` tokens: the most that are no shorter than `least`."""
    return max((count for count in range(1, side // least + 1) if side % count == 0), default=1)


@contextmanager
def tiled(least: dict[SelfAttention, int]) -> Iterator[None]:
    """Blocks attend within tiles: as many as fit that are no shorter than `least` tokens per side, by block."""
    with _Grids(least) as grids, ExitStack() as stack:
        for block, tokens in least.items():
            stack.enter_context(_tiled(block, grids, tokens))
        yield None


def finest(unet: nn.Module) -> list[SelfAttention]:
    """The self-attention blocks of the UNet's finest level that has any."""
    return [block for block in find_self_attention(unet) if block.resolution == 1]


def _finest_downsampling(unet: Any) -> int:
    """How many times smaller than the latent, per side, the grid of the finest self-attention is."""
    stages = getattr(unet, "down_blocks", None)
    if stages is None:
        return 1  # ldm's layouts attend at the latent's own size
    return int(2 ** next(index for index, stage in enumerate(stages) if getattr(stage, "attentions", None)))


@contextmanager
def _interpolating(block: SelfAttention, grids: _Grids, factor: float) -> Iterator[None]:
    def shrink(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (_interpolated(args[0], grids[block.transformer], factor),)

    with _hooks(projection.register_forward_pre_hook(shrink) for projection in _projections([block])):
        yield None


def _interpolated(tokens: Tensor, grid: tuple[int, int], factor: float) -> Tensor:
    """Tokens (batch, h·w, channels) on a grid smaller by `factor` per side."""
    planes = tokens.unflatten(1, grid).permute(0, 3, 1, 2)
    small = functional.interpolate(planes, size=[kept_size(side, factor) for side in grid], mode="nearest")
    return small.permute(0, 2, 3, 1).flatten(1, 2)


@contextmanager
def _tiled(block: SelfAttention, grids: _Grids, least: int) -> Iterator[None]:
    """One block attends tile by tile; a tile has at least `least` tokens per side."""

    def counts() -> tuple[tuple[int, int], tuple[int, int]]:
        grid = grids[block.transformer]
        return grid, (tile_count(grid[0], least), tile_count(grid[1], least))

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
