"""Other orders in which the phase could go through a cell's positions, to be measured against ToDo's own.

Each gives all positions (row, column) of a square cell of a given side, (0, 0) first.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from todo import Patch, Settings, downsample, patched

Order = tuple[tuple[int, int], ...]


def raster(cell: int) -> Order:
    """Row by row."""
    return tuple((row, column) for row in range(cell) for column in range(cell))


def diagonal(cell: int) -> Order:
    """Down the diagonals, one after the other."""
    return tuple((row, (row + shift) % cell) for shift in range(cell) for row in range(cell))


def bit_reversed(cell: int) -> Order:
    """As in ordered dithering: quarters of the cell in turn, diagonally opposite first, then quarters of those.

    For a side that is no power of two: the order of the next one, without what lies outside.
    """
    if cell == 1:
        return ((0, 0),)
    half = (cell + 1) // 2
    corners = ((0, 0), (1, 1), (0, 1), (1, 0))
    spread = (
        (row + down * half, column + across * half) for row, column in bit_reversed(half) for down, across in corners
    )
    return tuple((row, column) for row, column in spread if row < cell and column < cell)


def shuffled(cell: int) -> Order:
    """By lot, but (0, 0) first."""
    first, *others = raster(cell)
    random.Random(cell).shuffle(others)
    return (first, *others)


ORDERS: dict[str, Callable[[int], Order]] = {
    "raster": raster,
    "diagonal": diagonal,
    "bit-reversed": bit_reversed,
    "shuffled": shuffled,
}


@contextmanager
def patched_in_order(unet: nn.Module, settings: Settings, order: Callable[[int], Order]) -> Iterator[Patch]:
    """`todo.patched`, its phase going through the cells in another order."""
    module: Any = downsample
    own = module.phase_order
    module.phase_order = order
    try:
        with patched(unet, settings) as patch:
            yield patch
    finally:
        module.phase_order = own
