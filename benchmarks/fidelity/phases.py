"""Other patterns of kept tokens, to measure against ToDo's own: other orders in which a cell's positions, (row, column)
in a square of a given side, are kept from step to step, (0, 0) first; and other offsets between neighbouring cells."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from todo import Patch, Settings, downsample, patched
from todo.schedule import Moment

Order = tuple[tuple[int, int], ...]

Offsets = Callable[[int, int, int, int], tuple[Tensor, Tensor]]
"""Each cell's offset of the kept token, as `todo.downsample.offsets` gives it."""


def raster(cell: int) -> Order:
    """Row by row."""
    return tuple((row, column) for row in range(cell) for column in range(cell))


def diagonal(cell: int) -> Order:
    """Down the diagonals, one after the other."""
    return tuple((row, (row + shift) % cell) for shift in range(cell) for row in range(cell))


def shuffled(cell: int) -> Order:
    """At random, but (0, 0) first."""
    first, *others = raster(cell)
    random.Random(cell).shuffle(others)
    return (first, *others)


ORDERS: dict[str, Callable[[int], Order]] = {
    "raster": raster,
    "diagonal": diagonal,
    "shuffled": shuffled,
}


def aligned(cell: int, phase: int, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """The same offset in all cells: the kept tokens lie on a grid that moves as a whole."""
    down, across = downsample.phase_order(cell)[phase]
    return torch.full((rows, columns), down), torch.full((rows, columns), across)


def staggered(cell: int, phase: int, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Each row of cells has an offset one column larger than the row above."""
    down, across = aligned(cell, phase, rows, columns)
    return down, across + torch.arange(rows)[:, None]


def dithered(cell: int, phase: int, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Neighbouring cells are in different phases: each cell is ahead by the number that its position, taken modulo the
    cell's side, has in the order."""
    order = downsample.phase_order(cell)
    ahead = torch.tensor([order.index(position) for position in raster(cell)]).reshape(cell, cell)
    ahead = ahead.repeat(rows // cell + 1, columns // cell + 1)[:rows, :columns]
    down, across = torch.tensor(order)[(ahead + phase) % len(order)].unbind(dim=-1)
    return down, across


OFFSETS: dict[str, Offsets] = {"aligned": aligned, "staggered by rows": staggered, "dithered": dithered}


@contextmanager
def patched_with_order(unet: nn.Module, settings: Settings, order: Callable[[int], Order]) -> Iterator[Patch]:
    """`todo.patched` with another order of a cell's positions."""
    with _replaced("phase_order", order), patched(unet, settings) as patch:
        yield patch


@contextmanager
def patched_by_block(unet: nn.Module, settings: Settings) -> Iterator[Patch]:
    """`todo.patched` with each block one phase ahead of the block before it."""
    with patched(unet, settings) as patch:
        for index, block in enumerate(patch._blocks):
            block.moment = partial(_ahead, patch, index)
        yield patch


@contextmanager
def patched_with_offsets(unet: nn.Module, settings: Settings, offsets: Offsets) -> Iterator[Patch]:
    """`todo.patched` with other offsets between cells."""
    with _replaced("offsets", offsets), patched(unet, settings) as patch:
        yield patch


def _ahead(patch: Patch, by: int) -> Moment:
    return replace(patch.moment, step=patch.moment.step + by)


@contextmanager
def _replaced(name: str, by: Callable[..., Any]) -> Iterator[None]:
    module: Any = downsample
    own = getattr(module, name)
    setattr(module, name, by)
    try:
        yield
    finally:
        setattr(module, name, own)
