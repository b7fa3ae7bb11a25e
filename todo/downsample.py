"""The operation on one token grid: which tokens are kept, and how they are made.

A token grid is a batch of h·w tokens in raster order, as a UNet's spatial transformer lays them out.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

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


def downsample(tokens: Tensor, grid: tuple[int, int], factor: float, method: str, step: int | None = None) -> Tensor:
    """Keys' or values' inputs on a coarser grid.

    Args:
        tokens: (batch, m·h·w, channels): one or more whole grids of `grid` = (h, w), one after the other. Each is
            downsampled by itself.
        factor: ratio per side, at least 1, fractions allowed.
        method: 'nearest', 'nearest-exact', 'bilinear' or 'area'.
        step: turns the phase of the methods that pick tokens; None is the fixed grid of the paper.

    Returns:
        (batch, m·⌈h/factor⌉·⌈w/factor⌉, channels).

    Source: paper section 3 (nearest, fixed phase).
    """
    h, w = grid
    chunks = tokens.shape[1] // (h * w)
    planes = tokens.reshape(-1, h * w, tokens.shape[2])
    if method in GATHERS:
        phase = None if step is None else step % math.ceil(factor) ** 2
        planes = planes.index_select(1, _indices(grid, factor, method, phase, planes.device))
    else:
        planes = _blend(planes, grid, factor, method)
    return planes.reshape(tokens.shape[0], chunks * planes.shape[1], tokens.shape[2])


def picked(grid: tuple[int, int], factor: float, method: str, phase: int | None = None) -> Tensor:
    """The tokens kept of a `grid` (h, w), one of each cell: raster indices, (⌈h/factor⌉, ⌈w/factor⌉), on the CPU.

    A cell begins at a row and a column ⌊i·factor⌋. Nearest picks its first token, nearest-exact the one at its
    centre, ⌊(i + ½)·factor⌋ as far as that lies in the cell. A `phase` moves the pick on within the cell, as `moved`
    says, wrapping around at the cell's end.
    """
    rows, columns = _cells(grid[0], factor, method), _cells(grid[1], factor, method)
    down = across = torch.zeros((), dtype=torch.int64, device="cpu")
    if phase is not None:
        cell = math.ceil(factor)
        down, across = (by % cell for by in moved(cell, phase, len(rows.start), len(columns.start)))
    row = rows.start[:, None] + (rows.pick[:, None] + down) % rows.size[:, None]
    column = columns.start + (columns.pick + across) % columns.size
    return row * grid[1] + column


def moved(cell: int, phase: int, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """How far the picks of `rows` × `columns` cells are moved on in a phase, down and across.

    By that phase's position in a square of side `cell`, and by one further down for each cell to the left, one
    further across for each cell above: neighbours pick different positions, so that what is kept at a time lies
    less in lines than a grid does.
    """
    down, across = phase_order(cell)[phase]
    return down + torch.arange(columns, device="cpu"), across + torch.arange(rows, device="cpu")[:, None]


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
    _indices.cache_clear()


def _blend(planes: Tensor, grid: tuple[int, int], factor: float, method: str) -> Tensor:
    size = (kept_size(grid[0], factor), kept_size(grid[1], factor))
    image = rearrange(planes, "b (h w) c -> b c h w", h=grid[0])
    return rearrange(functional.interpolate(image, size=size, mode=method), "b c h w -> b (h w) c")


class _Cells(NamedTuple):
    """The cells along one side: where each begins, how long it is, and which of its lines the method picks."""

    start: Tensor
    size: Tensor
    pick: Tensor


def _cells(side: int, factor: float, method: str) -> _Cells:
    number = torch.arange(kept_size(side, factor), dtype=torch.float64, device="cpu")
    start = (number * factor).long().clamp(max=side - 1)
    end = torch.cat([start[1:], torch.full((1,), side, device="cpu")])
    size = (end - start).clamp(min=1)
    centre = ((number + 0.5) * factor).long() - start
    pick = torch.minimum(centre, size - 1) if method == "nearest-exact" else torch.zeros_like(start)
    return _Cells(start, size, pick)


@lru_cache(maxsize=512)
def _indices(grid: tuple[int, int], factor: float, method: str, phase: int | None, device: torch.device) -> Tensor:
    """`picked` in one row, kept on the device, so that only a phase's first step copies it there."""
    # A tensor made under inference_mode could not be used in training later.
    with torch.inference_mode(False):
        index = picked(grid, factor, method, phase).flatten()
        if device.type == "cuda":
            # Unpinned, the copy would wait for all that the device has to do.
            return index.pin_memory().to(device, non_blocking=True)
        return index.to(device)
