"""Alternatives to ToDo's pattern of kept tokens: other orders in which a cell's positions are kept from step to step,
and other offsets between neighbouring cells.

A cell is a square of tokens of which one is kept. Its side, `cell`, is the factor.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from todo import Patch, Settings, downsample, patched
from todo.level import Level
from todo.progress import Progress
from todo.schedule import Moment

Order = tuple[tuple[int, int], ...]
"""All (row, column) positions of a cell, in the order in which they are kept. (0, 0) comes first."""

Offsets = Callable[[int, int, int, int], tuple[Tensor, Tensor]]
"""The offset of the kept token in each cell, with the signature of `todo.downsample.offsets`."""


def raster(cell: int) -> Order:
    """Row by row."""
    return tuple((row, column) for row in range(cell) for column in range(cell))


def diagonal(cell: int) -> Order:
    """One diagonal after the other, each from top to bottom."""
    return tuple((row, (row + shift) % cell) for shift in range(cell) for row in range(cell))


def shuffled(cell: int) -> Order:
    """At random after (0, 0), the same on every call."""
    first, *remaining = raster(cell)
    random.Random(cell).shuffle(remaining)
    return (first, *remaining)


ORDERS: dict[str, Callable[[int], Order]] = {
    "raster": raster,
    "diagonal": diagonal,
    "shuffled": shuffled,
}


def aligned(cell: int, phase: int, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """The same offset in all cells: the grid of kept tokens moves as a whole."""
    down, across = downsample.phase_order(cell)[phase]
    return torch.full((rows, columns), down), torch.full((rows, columns), across)


def staggered(cell: int, phase: int, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Each row of cells is offset by one column more than the row above it."""
    down, across = aligned(cell, phase, rows, columns)
    return down, across + torch.arange(rows)[:, None]


def dithered(cell: int, phase: int, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Neighbouring cells are in different phases, as in ordered dithering. A cell is ahead by the index in the order
    of its own row and column among the cells, modulo `cell`."""
    order = downsample.phase_order(cell)
    ahead = torch.tensor([order.index(position) for position in raster(cell)]).reshape(cell, cell)
    ahead = ahead.repeat(rows // cell + 1, columns // cell + 1)[:rows, :columns]
    down, across = torch.tensor(order)[(ahead + phase) % len(order)].unbind(dim=-1)
    return down, across


OFFSETS: dict[str, Offsets] = {"aligned": aligned, "staggered by rows": staggered, "dithered": dithered}


@contextmanager
def patched_with_order(unet: nn.Module, settings: Settings, order: Callable[[int], Order]) -> Iterator[Patch]:
    """`todo.patched` with another order of positions."""
    with _replaced("phase_order", order), patched(unet, settings) as patch:
        yield patch


@contextmanager
def patched_by_block(unet: nn.Module, settings: Settings) -> Iterator[Patch]:
    """`todo.patched` with each block one phase ahead of the previous one."""
    with patched(unet, settings) as patch:
        for number, transformer in enumerate(patch.transformers):
            transformer.level = Level(settings, transformer.level.resolution, _Ahead(patch, number))
        yield patch


@contextmanager
def patched_with_offsets(unet: nn.Module, settings: Settings, offsets: Offsets) -> Iterator[Patch]:
    """`todo.patched` with other offsets between cells."""
    with _replaced("offsets", offsets), patched(unet, settings) as patch:
        yield patch


class _Ahead(Progress):
    """The patch's progress, a number of steps ahead."""

    def __init__(self, patch: Patch, steps: int):
        super().__init__(lambda: None)
        self._patch = patch
        self._steps = steps

    @property
    def moment(self) -> Moment:
        moment = self._patch.moment
        return replace(moment, step=moment.step + self._steps)


@contextmanager
def _replaced(name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Replaces a function of `todo.downsample` within a `with` block."""
    module: Any = downsample
    original = getattr(module, name)
    setattr(module, name, function)
    try:
        yield
    finally:
        setattr(module, name, original)
