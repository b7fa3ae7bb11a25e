"""Downsampling of one token grid: which tokens are kept, and how they are made.

A token grid is a batch of h·w tokens in raster order, as the spatial transformers of a UNet lay them out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import _disable_current_modes

GATHERS = ("nearest", "nearest-exact")
"""The methods that select tokens. The other methods blend them."""

_PARTS, _STRIDE = 8, 5
"""Where cells contain parts of tokens: their positions per side, and by how many neighbouring cells differ. 5/8 is
close to the golden ratio, so that a few neighbours cover the positions evenly."""

_SPREAD = 256
"""How many offsets of a large cell are spread evenly. No sampler takes more steps, and spreading costs time."""


def kept_size(side: int, factor: float) -> int:
    """How many of `side` rows (or columns) are kept at `factor`: ⌈side / factor⌉."""
    return math.ceil(side / factor)


def kept_tokens(grid: tuple[int, int], factor: float) -> int:
    """How many tokens of a `grid` (h, w) are kept at `factor`: ⌈h / factor⌉ · ⌈w / factor⌉."""
    return math.prod(kept_size(side, factor) for side in grid)


def downsample(tokens: Tensor, grid: tuple[int, int], factor: float, method: str, step: int | None = None) -> Tensor:
    """Downsamples the inputs of the key or value projection to a coarser grid.

    Args:
        tokens: (batch, m·h·w, channels): one or more whole grids of `grid` = (h, w), one after the other. Each grid
            is downsampled separately.
        factor: ratio per side, at least 1. Fractions are allowed.
        method: 'nearest', 'nearest-exact', 'bilinear' or 'area'.
        step: sampling step. The methods that select tokens use a different pattern at each step. None means the fixed
            grid of the paper.

    Returns:
        (batch, m·⌈h/factor⌉·⌈w/factor⌉, channels).

    Source: paper section 3, for method 'nearest' without a step.
    """
    h, w = grid
    grids = tokens.shape[1] // (h * w)
    planes = tokens.reshape(-1, h * w, tokens.shape[2])
    if method in GATHERS:
        planes = planes.index_select(1, indices(tokens, grid, factor, method, step))
    else:
        planes = _blend(planes, grid, factor, method)
    return planes.reshape(tokens.shape[0], grids * planes.shape[1], tokens.shape[2])


def indices(tokens: Tensor, grid: tuple[int, int], factor: float, method: str, step: int | None) -> Tensor:
    """`kept_indices`, flat, on the device of `tokens`, for a sampling step as in `downsample`. Cached between calls."""
    phase = None if step is None else step % positions(grid, factor) ** 2
    if type(tokens) is not Tensor:
        return _indices_like(tokens, grid, factor, method, phase)
    patterns = _on_device(grid, factor, method, phase is not None, tokens.device)
    return patterns[phase or 0]


def _indices_like(tokens: Any, grid: tuple[int, int], factor: float, method: str, phase: int | None) -> Tensor:
    """Indices for a fake tensor or another subclass. They must not be kept for tensors that have data."""
    with _disable_current_modes():
        index = kept_indices(grid, factor, method, phase).flatten()
    mode = getattr(tokens, "fake_mode", None)
    return mode.from_tensor(index).to(tokens.device) if mode else index.to(tokens.device)


def positions(grid: tuple[int, int], factor: float) -> int:
    """How many positions per side a cell's kept token takes in turn.

    If the factor is whole and divides both sides of the `grid` (h, w), they are the cell's tokens. Otherwise cells of
    equal width contain parts of tokens. Positions finer than tokens then let every token have about the same share of
    the steps. Cells of whole tokens could not be equal there, and tokens of small cells would weigh more at every step.
    """
    cell = math.ceil(factor)
    divides = cell == factor and not any(side % cell for side in grid)
    return cell if divides else max(cell, _PARTS)


def kept_indices(grid: tuple[int, int], factor: float, method: str, phase: int | None = None) -> Tensor:
    """The pattern of kept tokens: the raster index of one token in each cell of the grid.

    Without a phase, cell (i, j) begins at row ⌊i·factor⌋ and column ⌊j·factor⌋. 'nearest' keeps the first token of the
    cell; 'nearest-exact' keeps the token at its centre, ⌊(i + ½)·factor⌋, as long as that lies within the cell.

    With a phase, a side is divided into ⌈side/factor⌉ cells of equal width. The token is kept that contains the cell's
    position (see `offsets`), counted from the cell's beginning, or from its centre for 'nearest-exact'. Where cells
    contain parts of tokens, two cells that touch at a corner may now and then keep the same token.

    Args:
        grid: (h, w).
        factor: ratio per side, at least 1.
        method: 'nearest' or 'nearest-exact'.
        phase: index into `phase_order(positions(grid, factor))`. None means the fixed grid of the paper.

    Returns:
        int64 tensor (⌈h/factor⌉, ⌈w/factor⌉) on the CPU.
    """
    if phase is None:
        return _first_lines(grid[0], factor, method)[:, None] * grid[1] + _first_lines(grid[1], factor, method)
    return _patterns(grid, factor, method, [phase])[0]


def offsets(cell: int, phase: int, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """The position of the kept token in each of `rows` × `columns` cells, down and across, modulo `cell`.

    Every cell starts from the phase's offset in `phase_order`. Each cell further to the right is shifted down, and each
    cell further down is shifted to the right. Neighbouring cells therefore keep tokens at different offsets, and a
    single step covers more rows and columns than a regular grid would.

    Args:
        cell: positions per side.

    Returns:
        Tensors down (columns,) and across (rows, 1), which broadcast to (rows, columns).
    """
    down, across = phase_order(cell)[phase]
    stride = _STRIDE if cell == _PARTS else 1
    to_the_right, further_down = (stride * torch.arange(number, device="cpu") for number in (columns, rows))
    return down + to_the_right, across + further_down[:, None]


@lru_cache(maxsize=64)
def phase_order(cell: int) -> tuple[tuple[int, int], ...]:
    """All offsets (row, column) within a square cell, in the order in which the phases use them.

    Consecutive offsets are far apart, so that a few successive steps cover the cell evenly. The order begins at (0, 0).
    Each next offset is the one farthest from all previous ones, with distances measured on the torus that the repeated
    cells form. For a cell of 2 this gives (0, 0), (1, 1), (0, 1), (1, 0). Beyond the first 256 offsets the rest follows
    in raster order.
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
        # On a tie, take the offset with the largest total distance from all previous ones, then raster order.
        index = int(torch.where(farthest, total, -1.0).argmax())
        order.append(index)
        nearest, total = torch.minimum(nearest, distance(index)), total + distance(index)
    order += sorted(set(range(cell * cell)) - set(order))
    return tuple(divmod(index, cell) for index in order)


def release() -> None:
    """Frees the index tensors that are cached on devices between calls."""
    _on_device.cache_clear()


def _blend(planes: Tensor, grid: tuple[int, int], factor: float, method: str) -> Tensor:
    size = (kept_size(grid[0], factor), kept_size(grid[1], factor))
    maps = rearrange(planes, "b (h w) c -> b c h w", h=grid[0])
    return rearrange(functional.interpolate(maps, size=size, mode=method), "b c h w -> b (h w) c")


def _patterns(grid: tuple[int, int], factor: float, method: str, phases: Iterable[int]) -> Tensor:
    """`kept_indices` for several phases, (phases, ⌈h/factor⌉, ⌈w/factor⌉)."""
    h, w = grid
    rows, columns = kept_size(h, factor), kept_size(w, factor)
    cell = positions(grid, factor)
    moved = zip(*(offsets(cell, phase, rows, columns) for phase in phases), strict=True)
    first = cell // 2 if method == "nearest-exact" else 0
    down, across = ((torch.stack([each.expand(rows, columns) for each in plane]) + first) % cell for plane in moved)
    # In whole numbers, since the quotient of side and cells is rounded.
    row = (torch.arange(rows, device="cpu")[:, None] * cell + down) * h // (rows * cell)
    column = (torch.arange(columns, device="cpu") * cell + across) * w // (columns * cell)
    return row * w + column


def _first_lines(side: int, factor: float, method: str) -> Tensor:
    """The rows of the paper's fixed grid, (⌈side/factor⌉,). The same holds for columns."""
    number = torch.arange(kept_size(side, factor), dtype=torch.float64, device="cpu")
    start = (number * factor).long().clamp(max=side - 1)
    if method == "nearest":
        return start
    last = torch.cat([start[1:] - 1, torch.full((1,), side - 1, device="cpu")])
    return torch.minimum(((number + 0.5) * factor).long(), torch.maximum(last, start))


@lru_cache(maxsize=64)
def _on_device(
    grid: tuple[int, int], factor: float, method: str, moves: bool, device: torch.device
) -> tuple[Tensor, ...]:
    """The flat patterns of all phases, or the only one if it does not move. They are copied to the device at once, so
    that a run copies only at its first step. Together they have about as many indices as the grid has tokens where the
    factor divides its sides, and up to 64 times as many elsewhere."""
    # A tensor made under inference_mode could not be used for training later.
    with torch.inference_mode(False):
        if moves:
            patterns = _patterns(grid, factor, method, range(positions(grid, factor) ** 2))
        else:
            patterns = kept_indices(grid, factor, method)[None]
        table = patterns.flatten(1)
        # A copy from unpinned memory would wait until the device has finished all its queued work.
        table = table.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else table.to(device)
        return table.unbind()
