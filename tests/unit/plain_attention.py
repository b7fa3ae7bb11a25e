"""A plain reference implementation of attention over a subsampled grid, to compare the patched models with.

Nothing here comes from the package. Positions are found by loops over rows and columns.
"""

from __future__ import annotations

import math
import types
from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.nn import functional

HALF = Fraction(1, 2)

OFFSETS = ((Fraction(0), Fraction(0)), (HALF, HALF), (Fraction(0), HALF), (HALF, Fraction(0)))
"""The offsets (down, across) of the first four phases at a factor of two, in cells."""

FINER_OFFSETS = (*OFFSETS, *((down + HALF / 2, across + HALF / 2) for down, across in OFFSETS))
"""The offsets of the first eight phases where two does not divide both sides."""

Offset = tuple[Fraction, Fraction] | None
"""The offset (down, across) of the first cell, from which those of the other cells follow; None for no offsets."""


def first_line(side: int, number: int, factor: float, method: str) -> int:
    """The row (or column) that is kept of cell `number` without offsets: its first or its centre one."""
    exact = Fraction(factor)
    line = math.floor(number * exact)
    if method == "nearest-exact":
        following = min(math.floor((number + 1) * exact), side)
        line = min(math.floor((number + HALF) * exact), following - 1)
    return line


def positions(height: int, width: int, factor: float) -> tuple[int, int]:
    """How many positions per side a cell's token takes in turn, and by how many neighbouring cells differ."""
    if factor == int(factor) and height % factor == 0 == width % factor:
        return int(factor), 5 if factor == 8 else 1
    return (8, 5) if factor <= 8 else (math.ceil(factor), 1)


def moved_line(side: int, number: int, factor: float, offset: Fraction) -> int:
    """The row (or column) at an offset within cell `number` of cells of equal width."""
    width = Fraction(side, math.ceil(side / Fraction(factor)))
    return math.floor((number + offset % 1) * width)


def expected_indices(
    height: int, width: int, factor: float, method: str = "nearest", offset: Offset = None
) -> list[int]:
    """The raster indices of the kept tokens, cell by cell.

    Without an `offset`, all cells keep the same token. With one, it is the offset of the first cell. Cells further to
    the right are shifted down, cells further down to the right.
    """
    parts, stride = positions(height, width, factor)
    begin = Fraction(parts // 2, parts) if method == "nearest-exact" else Fraction(0)
    kept = []
    for i in range(math.ceil(height / Fraction(factor))):
        for j in range(math.ceil(width / Fraction(factor))):
            if offset is None:
                row, column = first_line(height, i, factor, method), first_line(width, j, factor, method)
            else:
                down, across = (
                    begin + first + Fraction(stride * n, parts) for first, n in ((offset[0], j), (offset[1], i))
                )
                row, column = moved_line(height, i, factor, down), moved_line(width, j, factor, across)
            kept.append(row * width + column)
    return kept


def subsample(
    tokens: Tensor, height: int, width: int, factor: float, method: str = "nearest", offset: Offset = None
) -> Tensor:
    """Downsamples each whole grid in (batch, tokens, channels) separately."""
    if factor == 1:
        return tokens
    grids = []
    for begin in range(0, tokens.shape[1], height * width):
        grid = tokens[:, begin : begin + height * width]
        if method in ("nearest", "nearest-exact"):
            kept = [grid[:, index] for index in expected_indices(height, width, factor, method, offset)]
            grids.append(torch.stack(kept, dim=1))
        else:
            size = (math.ceil(height / factor), math.ceil(width / factor))
            planes = grid.transpose(1, 2).reshape(grid.shape[0], -1, height, width)
            grids.append(functional.interpolate(planes, size=size, mode=method).flatten(2).transpose(1, 2))
    return torch.cat(grids, dim=1)


def project(linear: nn.Module, tokens: Tensor) -> Tensor:
    """Applies a projection's weights directly, because calling the module would call its hooks."""
    return functional.linear(tokens, linear.weight, linear.bias)


def attend(attention: nn.Module, queries: Tensor, keys: Tensor, values: Tensor | None = None) -> Tensor:
    """softmax(q·Kᵀ/√d)·V, head by head. The arguments are tokens, to be projected."""
    q = project(attention.to_q, queries)
    k = project(attention.to_k, keys)
    v = project(attention.to_v, keys if values is None else values)
    width = q.shape[-1] // attention.heads
    heads = []
    for head in range(attention.heads):
        channels = slice(head * width, (head + 1) * width)
        scores = q[..., channels] @ k[..., channels].transpose(1, 2) / math.sqrt(width)
        heads.append(scores.float().softmax(dim=-1).to(v.dtype) @ v[..., channels])
    return project(attention.to_out[0], torch.cat(heads, dim=-1))


def replace_attention(
    unet: nn.Module, path: str, height: int, width: int, factor: float, method: str = "nearest", offset: Offset = None
) -> None:
    """Replaces every self-attention in the transformer at `path` with the plain reference."""
    for block in unet.get_submodule(path).transformer_blocks:

        def forward(self, x, context=None, mask=None, **others):
            assert x.shape[1] == height * width, "the reference was given another grid"
            whole = x if context is None else context
            return attend(self, x, subsample(whole, height, width, factor, method, offset))

        block.attn1.forward = types.MethodType(forward, block.attn1)
