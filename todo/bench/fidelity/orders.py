"""Other ways in which the phase could move, to be measured against ToDo's own.

An order gives all positions (row, column) of a square cell of a given side, (0, 0) first.
"""

from __future__ import annotations

import math
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


def raster(cell: int) -> Order:
    """Row by row."""
    return tuple((row, column) for row in range(cell) for column in range(cell))


def diagonal(cell: int) -> Order:
    """Down the diagonals, one after the other."""
    return tuple((row, (row + shift) % cell) for shift in range(cell) for row in range(cell))


def shuffled(cell: int) -> Order:
    """By lot, but (0, 0) first."""
    first, *others = raster(cell)
    random.Random(cell).shuffle(others)
    return (first, *others)


ORDERS: dict[str, Callable[[int], Order]] = {
    "raster": raster,
    "diagonal": diagonal,
    "shuffled": shuffled,
}


@contextmanager
def patched_in_order(unet: nn.Module, settings: Settings, order: Callable[[int], Order]) -> Iterator[Patch]:
    """`todo.patched`, its phase going through the cells in another order."""
    with _replaced("phase_order", order), patched(unet, settings) as patch:
        yield patch


@contextmanager
def patched_by_block(unet: nn.Module, settings: Settings) -> Iterator[Patch]:
    """`todo.patched`, each block one phase ahead of the block before it."""
    with patched(unet, settings) as patch:
        for index, block in enumerate(patch._blocks):
            block.moment = partial(_ahead, patch, index)
        yield patch


@contextmanager
def patched_staggered(unet: nn.Module, settings: Settings) -> Iterator[Patch]:
    """`todo.patched`, each row of cells picking one column further than the row above."""
    with _replaced("_gather", _staggered), patched(unet, settings) as patch:
        yield patch


def _ahead(patch: Patch, by: int) -> Moment:
    return replace(patch.moment, step=patch.moment.step + by)


def _staggered(planes: Tensor, grid: tuple[int, int], factor: float, method: str, step: int) -> Tensor:
    cell = math.ceil(factor)
    order = downsample.phase_order(cell)
    down, across = order[step % len(order)]
    index = [
        row * grid[1] + column
        for number, row in enumerate(downsample.positions(grid[0], factor, down, method))
        for column in downsample.positions(grid[1], factor, (across + number) % cell, method)
    ]
    return planes.index_select(1, torch.tensor(index, device=planes.device))


@contextmanager
def _replaced(name: str, by: Callable[..., Any]) -> Iterator[None]:
    module: Any = downsample
    own = getattr(module, name)
    setattr(module, name, by)
    try:
        yield
    finally:
        setattr(module, name, own)
