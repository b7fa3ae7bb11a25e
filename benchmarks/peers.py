"""Alternatives to ToDo, each applied to a UNet within a `with` block: token merging, tiles, and a single key, the limit
for any method that reduces keys."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from benchmarks.hooks import attached
from benchmarks.method import LatentSize
from todo.unet import SelfAttention, find_self_attention

_TILE, _SMALLEST_TILE = 32, 16
"""Sides of HyperTile's tiles in latent positions: 256 pixels by default, and at least 128 where the image's sides need
smaller tiles."""


@contextmanager
def one_key(unet: nn.Module) -> Iterator[None]:
    """Keeps only the first key/value token, in every self-attention outside the middle block."""

    def keep_first(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (args[0][:, :1],)

    blocks = find_self_attention(unet)
    with attached(projection.register_forward_pre_hook(keep_first) for projection in _projections(blocks)):
        yield None


@contextmanager
def token_merging(unet: nn.Module, ratio: float, stride: int = 2) -> Iterator[None]:
    """Token merging by the package tomesd, at the UNet's finest self-attention.

    The package's default for `max_downsample` reaches no self-attention of SDXL, so it is set to reach the finest.

    Args:
        ratio: share of tokens that are merged away, at most 1 − 1 / stride².
        stride: side of the cells in which one token is never merged; 2 is the package's default.
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
def hypertile(unet: nn.Module, latent: LatentSize) -> Iterator[None]:
    """HyperTile with its defaults, but always with the most tiles. HyperTile itself draws one of the three largest
    numbers of tiles at random.

    The minimum side of a tile, in tokens, is multiplied by the level's resolution. So deeper levels are tiled only in
    very large images. The middle block is left out, since no image measured here is large enough.

    Source: AUTOMATIC1111's built-in extension hypertile, version 1.10.
    """
    tokens = tile_side(latent)
    with tiled({block: tokens * block.resolution for block in find_self_attention(unet)}):
        yield None


def tile_side(latent: LatentSize) -> int:
    """The minimum side of HyperTile's tiles, in latent positions: the largest power of two that divides both sides of
    the latent, within HyperTile's bounds."""
    common = math.gcd(*latent)
    return max(min(common & -common, _TILE), _SMALLEST_TILE)


def tile_count(side: int, minimum: int) -> int:
    """The largest number of equal tiles that `side` tokens can be split into, each of at least `minimum` tokens."""
    return max((count for count in range(1, side // minimum + 1) if side % count == 0), default=1)


@contextmanager
def tiled(minimum_sides: dict[SelfAttention, int]) -> Iterator[None]:
    """Makes blocks attend within tiles, as many as possible.

    Args:
        minimum_sides: by block, the least number of tokens per side of a tile.
    """
    with _Grids(minimum_sides) as grids, ExitStack() as stack:
        for block, minimum in minimum_sides.items():
            stack.enter_context(_tiled(block, grids, minimum))
        yield None


def finest(unet: nn.Module) -> list[SelfAttention]:
    """The blocks of the UNet's finest self-attention level."""
    return [block for block in find_self_attention(unet) if block.resolution == 1]


def _finest_downsampling(unet: Any) -> int:
    """The side of the latent over the side of the finest self-attention's grid."""
    stages = getattr(unet, "down_blocks", None)
    if stages is None:
        return 1  # ldm's UNets have self-attention at the latent's own size
    return int(2 ** next(index for index, stage in enumerate(stages) if getattr(stage, "attentions", None)))


@contextmanager
def _tiled(block: SelfAttention, grids: _Grids, minimum: int) -> Iterator[None]:
    """Makes one block attend within tiles of at least `minimum` tokens per side."""

    def counts() -> tuple[tuple[int, int], tuple[int, int]]:
        grid = grids[block.transformer]
        return grid, (tile_count(grid[0], minimum), tile_count(grid[1], minimum))

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
    with attached([attention.register_forward_pre_hook(split), attention.register_forward_hook(join)]):
        yield None


class _Wrapped(nn.Module):
    """Holds a UNet at `.model.diffusion_model`, where tomesd looks for ldm's."""

    def __init__(self, unet: nn.Module):
        super().__init__()
        self.model = nn.Module()
        self.model.diffusion_model = unet


class _Grids(dict[nn.Module, tuple[int, int]]):
    """The current token grid (h, w) of each spatial transformer, within a `with` block."""

    def __init__(self, blocks: Iterable[SelfAttention]):
        super().__init__()
        self._transformers = {block.transformer for block in blocks}
        self._stack = ExitStack()

    def __enter__(self) -> _Grids:
        hooks = (transformer.register_forward_pre_hook(self._record) for transformer in self._transformers)
        self._stack.enter_context(attached(hooks))
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    def _record(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self[module] = (args[0].shape[-2], args[0].shape[-1])


def _projections(blocks: Sequence[SelfAttention]) -> Iterator[nn.Module]:
    for block in blocks:
        attention: Any = block.attention
        yield from (attention.to_k, attention.to_v)
