"""The operation on one token grid: which tokens are kept, and how they are made.

A token grid is a batch of h·w tokens in raster order, as a UNet's spatial transformer lays them out.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional

GATHERS = ("nearest", "nearest-exact")
"""The methods that pick tokens; the others blend them."""


_SPREAD = 256


def kept_size(side: int, factor: float) -> int:
    """How many rows (or columns) of `side` are kept at `factor`: ⌈side / factor⌉."""
    return math.ceil(side / factor)


def kept_tokens(grid: tuple[int, int], factor: float) -> int:
    """How many tokens of a `grid` (h, w) are kept at `factor`."""
    return math.prod(kept_size(side, factor) for side in grid)


def downsample(tokens: Tensor, grid: tuple[int, int], factor: float, method: str, step: int = 0) -> Tensor:
    """Keys' or values' inputs on a coarser grid.

    Args:
        tokens: (batch, m·h·w, channels): one or more whole grids of `grid` = (h, w), one after the other. Each is
            downsampled by itself.
        factor: ratio per side, at least 1, fractions allowed.
        method: 'nearest', 'nearest-exact', 'bilinear' or 'area'.
        step: turns the phase of the methods that pick tokens; 0 is the grid of the paper.

    Returns:
        (batch, m·⌈h/factor⌉·⌈w/factor⌉, channels).

    Source: paper section 3 (nearest, fixed phase).
    """
    h, w = grid
    chunks = tokens.shape[1] // (h * w)
    planes = tokens.reshape(-1, h * w, tokens.shape[2])
    if method in GATHERS:
        planes = _gather(planes, grid, factor, method, step)
    else:
        planes = _blend(planes, grid, factor, method)
    return planes.reshape(tokens.shape[0], chunks * planes.shape[1], tokens.shape[2])


def positions(side: int, factor: float, offset: int, method: str) -> tuple[int, ...]:
    """The rows (or columns) kept of `side`, ascending.

    The cells begin at ⌊i·factor⌋. Nearest keeps each cell's first row, nearest-exact its centre,
    ⌊(i + ½)·factor⌋ as far as that lies in the cell; `offset` moves on within the cell, wrapping around at its end.
    """
    count = kept_size(side, factor)
    starts = [min(math.floor(i * factor), side - 1) for i in range(count)]
    kept = []
    for i, (start, end) in enumerate(zip(starts, [*starts[1:], side], strict=True)):
        size = max(end - start, 1)
        centre = min(math.floor((i + 0.5) * factor) - start, size - 1)
        kept.append(start + ((centre if method == "nearest-exact" else 0) + offset) % size)
    return tuple(kept)


@lru_cache(maxsize=64)
def phase_order(cell: int) -> tuple[tuple[int, int], ...]:
    """All positions (row, column) of a square cell, spread so that any few in a row lie far apart.

    Begins at (0, 0). Each next position is the one farthest from all before it on the torus that the repeated
    cells form; at 2 that gives (0, 0), (1, 1), (0, 1), (1, 0). Of a large cell only as many are spread as a sampler
    has steps.
    """
    axis = torch.arange(cell, dtype=torch.float32, device="cpu")
    row, column = (plane.flatten() for plane in torch.meshgrid(axis, axis, indexing="ij"))

    def distance(index: int) -> Tensor:
        down, across = (row - row[index]).abs(), (column - column[index]).abs()
        return torch.minimum(down, cell - down) ** 2 + torch.minimum(across, cell - across) ** 2

    order = [0]
    nearest, total = distance(0), distance(0)
    while len(order) < min(cell * cell, _SPREAD):
        nearest[order[-1]] = -1.0
        farthest = nearest == nearest.max()
        # Among equally far ones, the one farthest from all taken so far as a whole; then raster order.
        index = int(torch.where(farthest, total, -1.0).argmax())
        order.append(index)
        nearest, total = torch.minimum(nearest, distance(index)), total + distance(index)
    order += sorted(set(range(cell * cell)) - set(order))
    return tuple(divmod(index, cell) for index in order)


def release() -> None:
    """Lets go of what is kept on devices between calls."""
    _flat_index.cache_clear()


def _gather(planes: Tensor, grid: tuple[int, int], factor: float, method: str, step: int) -> Tensor:
    order = phase_order(math.ceil(factor))
    rows, columns = _axes(grid, factor, method, *order[step % len(order)])
    if isinstance(rows, slice) and isinstance(columns, slice):
        return planes.unflatten(1, grid)[:, rows, columns].flatten(1, 2)
    return planes.index_select(1, _flat_index(grid, factor, method, step % len(order), planes.device))


def _blend(planes: Tensor, grid: tuple[int, int], factor: float, method: str) -> Tensor:
    size = (kept_size(grid[0], factor), kept_size(grid[1], factor))
    image = rearrange(planes, "b (h w) c -> b c h w", h=grid[0])
    return rearrange(functional.interpolate(image, size=size, mode=method), "b c h w -> b (h w) c")


Axis = slice | tuple[int, ...]


@lru_cache(maxsize=1024)
def _axes(grid: tuple[int, int], factor: float, method: str, row: int, column: int) -> tuple[Axis, Axis]:
    """The kept rows and columns, each as a slice where they are evenly spaced."""
    return _slice(positions(grid[0], factor, row, method)), _slice(positions(grid[1], factor, column, method))


def _slice(kept: tuple[int, ...]) -> Axis:
    strides = {after - before for before, after in pairwise(kept)}
    if len(strides) > 1 or 0 in strides:
        return kept
    return slice(kept[0], kept[-1] + 1, strides.pop() if strides else 1)


@lru_cache(maxsize=256)
def _flat_index(grid: tuple[int, int], factor: float, method: str, phase: int, device: torch.device) -> Tensor:
    """Raster indices of the kept tokens. Kept on the device, so that only a phase's first step copies them there."""
    row, column = phase_order(math.ceil(factor))[phase]
    # A tensor made under inference_mode could not be used in training later.
    with torch.inference_mode(False):
        rows = torch.tensor(positions(grid[0], factor, row, method), device="cpu")
        columns = torch.tensor(positions(grid[1], factor, column, method), device="cpu")
        index = (rows[:, None] * grid[1] + columns).flatten()
        if device.type == "cuda":
            index = index.pin_memory()  # else the copy would wait for all that the device has to do
        return index.to(device, non_blocking=True)
