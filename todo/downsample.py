"""Downsampling of one token grid: which tokens are kept.

A token grid is a batch of h·w tokens in raster order, as the spatial transformers of a UNet lay them out.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from einops import rearrange
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from .compiled import constant

_PARTS, _STRIDE = 8, 5
"""Where cells contain parts of tokens: their positions per side, and by how many neighbouring cells differ. 5/8 is
close to the golden ratio, so that a few neighbours cover the positions evenly."""

Offset = tuple[int, int] | tuple[Tensor, Tensor]
Device = torch.device | str

_SPREAD = 256
"""How many offsets of a large cell are spread evenly. No sampler takes more steps, and spreading costs time."""


def kept_size(side: int, factor: float) -> int:
    """How many of `side` rows (or columns) are kept at `factor`: ⌈side / factor⌉. A factor may have been rounded."""
    return math.ceil(round(side / factor, 9))


def kept_tokens(grid: tuple[int, int], factor: float) -> int:
    """How many tokens of a `grid` (h, w) are kept at `factor`: ⌈h / factor⌉ · ⌈w / factor⌉."""
    return kept_size(grid[0], factor) * kept_size(grid[1], factor)


def select(tokens: Tensor, index: Tensor, grid: tuple[int, int]) -> Tensor:
    """The tokens at `index` (kept,) of each of the m whole grids in `tokens` (batch, m·h·w, channels), one grid after
    the other: (batch, m·kept, channels)."""
    size = grid[0] * grid[1]
    if tokens.shape[1] == size:
        return tokens.index_select(1, index)
    grids = rearrange(tokens, "b (m n) c -> (b m) n c", n=size)
    return rearrange(grids.index_select(1, index), "(b m) k c -> b (m k) c", b=tokens.shape[0])


def kept_index(grid: tuple[int, int], factor: float, method: str, step: int | None, device: torch.device) -> Tensor:
    """`kept_indices` in one row, (kept,), on a device."""
    with torch.inference_mode(False), _disable_current_modes():
        index = kept_indices(grid, factor, method, step).flatten()
        # A copy from unpinned memory would wait until the device has finished all its queued work.
        return index.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else index.to(device)


def compiled_index(
    grid: tuple[int, int], factor: float, method: str, step: Tensor | None, device: torch.device
) -> Tensor:
    """`kept_index` for code that is being compiled. The step is an integer tensor (): a number would be part of the
    code, which would be compiled anew at each step."""
    if step is None:
        return _fixed_index(grid[0], grid[1], factor, method, device)
    cell = positions(grid, factor)
    phase = (step if step.device == device else step.to(device)) % cell**2
    offset = _order_on(cell, device).index_select(0, phase.reshape(1))
    return _moved(grid, factor, method, (offset[0, 0], offset[0, 1]), device).flatten()


@constant
def _fixed_index(h: int, w: int, factor: float, method: str, device: torch.device) -> Tensor:
    return kept_index((h, w), factor, method, None, device)


@constant
def _order_on(cell: int, device: torch.device) -> Tensor:
    """`phase_order` as a tensor (phases, 2)."""
    with torch.inference_mode(False), _disable_current_modes():
        return torch.tensor(phase_order(cell), device=device)


def positions(grid: tuple[int, int], factor: float) -> int:
    """How many positions per side a cell's kept token takes in turn.

    If the factor is whole and divides both sides of the `grid` (h, w), they are the cell's tokens. Otherwise cells of
    equal width contain parts of tokens. Positions finer than tokens then let every token have about the same share of
    the steps. Cells of whole tokens could not be equal there, and tokens of small cells would weigh more at every step.
    """
    cell = math.ceil(factor)
    divides = cell == factor and not any(side % cell for side in grid)
    return cell if divides else max(cell, _PARTS)


def kept_indices(grid: tuple[int, int], factor: float, method: str, step: int | None = None) -> Tensor:
    """The pattern of kept tokens: the raster index of one token in each cell of the grid.

    Without a step, cell (i, j) begins at row ⌊i·factor⌋ and column ⌊j·factor⌋. 'nearest' keeps the first token of the
    cell; 'nearest-exact' keeps the token at its centre, ⌊(i + ½)·factor⌋, as long as that lies within the cell.

    With a step, a side is divided into ⌈side/factor⌉ cells of equal width. The token is kept that contains the step's
    position (see `offsets`), counted from the cell's beginning, or from its centre for 'nearest-exact'. Where cells
    contain parts of tokens, two cells that touch at a corner may now and then keep the same token.

    Args:
        grid: (h, w).
        factor: ratio per side, at least 1.
        method: 'nearest' or 'nearest-exact'.
        step: sampling step, each of which uses another pattern: step modulo positions² is the index into
            `phase_order`. None means the fixed grid of the paper.

    Returns:
        int64 tensor (⌈h/factor⌉, ⌈w/factor⌉) on the CPU.

    Source: paper section 3, for method 'nearest' without a step.
    """
    if step is None:
        return _first_lines(grid[0], factor, method)[:, None] * grid[1] + _first_lines(grid[1], factor, method)
    order = phase_order(positions(grid, factor))
    return _moved(grid, factor, method, order[step % len(order)], "cpu")


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


def offsets(cell: int, first: Offset, rows: int, columns: int, device: Device) -> tuple[Tensor, Tensor]:
    """The position of the kept token in each of `rows` × `columns` cells, down and across, modulo `cell`.

    Each cell further to the right than the first is shifted down, and each cell further down is shifted to the right.
    Neighbouring cells therefore keep tokens at different offsets, and a single step covers more rows and columns than a
    regular grid would.

    Args:
        cell: positions per side.
        first: the position (down, across) in the first cell.

    Returns:
        Tensors down (columns,) and across (rows, 1), which broadcast to (rows, columns).
    """
    stride = _STRIDE if cell == _PARTS else 1
    to_the_right, further_down = (stride * torch.arange(number, device=device) for number in (columns, rows))
    return to_the_right + first[0], further_down[:, None] + first[1]


def _moved(grid: tuple[int, int], factor: float, method: str, first: Offset, device: Device) -> Tensor:
    """The pattern whose first cell keeps the token at the position `first`, (rows, columns)."""
    h, w = grid
    rows, columns = kept_size(h, factor), kept_size(w, factor)
    cell = positions(grid, factor)
    centre = cell // 2 if method == "nearest-exact" else 0
    down, across = ((each + centre) % cell for each in offsets(cell, first, rows, columns, device))
    # In whole numbers, since the quotient of side and cells is rounded.
    row = (torch.arange(rows, device=device)[:, None] * cell + down) * h // (rows * cell)
    column = (torch.arange(columns, device=device) * cell + across) * w // (columns * cell)
    return row * w + column


def _first_lines(side: int, factor: float, method: str) -> Tensor:
    """The rows of the paper's fixed grid, (⌈side/factor⌉,). The same holds for columns."""
    number = torch.arange(kept_size(side, factor), dtype=torch.float64, device="cpu")
    start = (number * factor).long().clamp(max=side - 1)
    if method == "nearest":
        return start
    last = torch.cat([start[1:] - 1, torch.full((1,), side - 1, device="cpu")])
    return torch.minimum(((number + 0.5) * factor).long(), torch.maximum(last, start))
