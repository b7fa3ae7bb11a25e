"""Alternatives to ToDo's pattern of kept tokens: other orders in which a cell's positions are kept from step to step,
and other offsets between neighbouring cells.

A cell is a square of tokens of which one is kept. Its side, `cell`, is the factor.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from todo import Patch, Settings, downsample, patched

Order = tuple[tuple[int, int], ...]
"""All (row, column) positions of a cell, in the order in which they are kept. (0, 0) comes first."""

Offsets = Callable[[int, Any, int, int, Any], tuple[Tensor, Tensor]]
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


def aligned(cell: int, first: tuple[int, int], rows: int, columns: int, device: Any) -> tuple[Tensor, Tensor]:
    """The same offset in all cells: the grid of kept tokens moves as a whole."""
    down, across = first
    return torch.full((rows, columns), down), torch.full((rows, columns), across)


def staggered(cell: int, first: tuple[int, int], rows: int, columns: int, device: Any) -> tuple[Tensor, Tensor]:
    """Each row of cells is offset by one column more than the row above it."""
    down, across = aligned(cell, first, rows, columns, device)
    return down, across + torch.arange(rows)[:, None]


def dithered(cell: int, first: tuple[int, int], rows: int, columns: int, device: Any) -> tuple[Tensor, Tensor]:
    """Neighbouring cells are in different phases, as in ordered dithering. A cell is ahead by the index in the order
    of its own row and column among the cells, modulo `cell`."""
    order = downsample.phase_order(cell)
    ahead = torch.tensor([order.index(position) for position in raster(cell)]).reshape(cell, cell)
    ahead = ahead.repeat(rows // cell + 1, columns // cell + 1)[:rows, :columns]
    down, across = torch.tensor(order)[(ahead + order.index(first)) % len(order)].unbind(dim=-1)
    return down, across


OFFSETS: dict[str, Offsets] = {"aligned": aligned, "staggered by rows": staggered, "dithered": dithered}


@contextmanager
def patched_with_order(unet: nn.Module, settings: Settings, order: Callable[[int], Order]) -> Iterator[Patch]:
    """`todo.patched` with another order of positions."""
    with _replaced("phase_order", order), patched(unet, settings) as patch:
        yield patch


@contextmanager
def patched_with_offsets(unet: nn.Module, settings: Settings, offsets: Offsets) -> Iterator[Patch]:
    """`todo.patched` with other offsets between cells."""
    with _replaced("offsets", offsets), patched(unet, settings) as patch:
        yield patch


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
