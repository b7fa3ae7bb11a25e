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

OFFSETS = ((0, 0), (1, 1), (0, 1), (1, 0))
"""The offsets (row, column) of successive phases in a cell of two by two."""

Offset = tuple[int, int] | None
"""The offset (row, column) of the first cell, from which those of the other cells follow; None for no offsets."""


def cells(side: int, factor: float) -> list[range]:
    """The rows (or columns) of each cell along a side."""
    exact = Fraction(factor)
    count = math.ceil(side / exact)
    starts = [math.floor(i * exact) for i in range(count)]
    return [range(start, end) for start, end in zip(starts, [*starts[1:], side], strict=True)]


def kept_line(lines: range, number: int, factor: float, method: str, shift: int) -> int:
    """The row (or column) that is kept of cell `number`: its first or its centre one, shifted within the cell."""
    line = lines[0]
    if method == "nearest-exact":
        line = min(math.floor((number + Fraction(1, 2)) * Fraction(factor)), lines[-1])
    for _ in range(shift % math.ceil(factor)):
        line = line + 1 if line + 1 in lines else lines[0]
    return line


def expected_indices(
    height: int, width: int, factor: float, method: str = "nearest", offset: Offset = None
) -> list[int]:
    """The raster indices of the kept tokens, cell by cell.

    Without an `offset`, all cells keep the same token. With one, it is the offset of the first cell. Each cell further
    to the right is shifted one row more, and each cell further down one column more.
    """
    kept = []
    for i, rows in enumerate(cells(height, factor)):
        for j, columns in enumerate(cells(width, factor)):
            down, across = (0, 0) if offset is None else (offset[0] + j, offset[1] + i)
            row, column = kept_line(rows, i, factor, method, down), kept_line(columns, j, factor, method, across)
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
