"""Attention over a subsampled grid, written out plainly: what the patched models are held against.

Nothing here comes from the package. Positions are found by loops over rows and columns.
"""

from __future__ import annotations

import math
import types
from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.nn import functional

CORNERS = ((0, 0), (1, 1), (0, 1), (1, 0))
"""The order of positions (row, column) in a cell of two by two."""


Corner = tuple[int, int] | None
"""The first cell's position (row, column), where neighbours differ; None where all cells are alike."""


def cells(side: int, factor: float) -> list[range]:
    """The rows (or columns) of each cell along a side."""
    exact = Fraction(factor)
    count = math.ceil(side / exact)
    begins = [math.floor(i * exact) for i in range(count)]
    return [range(begin, end) for begin, end in zip(begins, [*begins[1:], side], strict=True)]


def picked_line(lines: range, number: int, factor: float, method: str, offset: int) -> int:
    """Of the cell of that number, its first line or its centre one, moved on by `offset` within the cell."""
    line = lines[0]
    if method == "nearest-exact":
        line = min(math.floor((number + Fraction(1, 2)) * Fraction(factor)), lines[-1])
    for _ in range(offset % math.ceil(factor)):
        line = line + 1 if line + 1 in lines else lines[0]
    return line


def kept_indices(height: int, width: int, factor: float, method: str = "nearest", corner: Corner = None) -> list[int]:
    """The raster indices of the tokens kept, cell by cell. Without a `corner` all cells pick the same; with one, it is
    the first cell's position (row, column), the cells to the right of a cell pick one further down each, and the cells
    below one further across."""
    kept = []
    for i, rows in enumerate(cells(height, factor)):
        for j, columns in enumerate(cells(width, factor)):
            down, across = (0, 0) if corner is None else (corner[0] + j, corner[1] + i)
            row, column = picked_line(rows, i, factor, method, down), picked_line(columns, j, factor, method, across)
            kept.append(row * width + column)
    return kept


def subsample(
    tokens: Tensor, height: int, width: int, factor: float, method: str = "nearest", corner: Corner = None
) -> Tensor:
    """Every whole grid within (batch, tokens, channels) on a coarser grid, one grid after the other."""
    if factor == 1:
        return tokens
    grids = []
    for begin in range(0, tokens.shape[1], height * width):
        grid = tokens[:, begin : begin + height * width]
        if method in ("nearest", "nearest-exact"):
            kept = [grid[:, index] for index in kept_indices(height, width, factor, method, corner)]
            grids.append(torch.stack(kept, dim=1))
        else:
            size = (math.ceil(height / factor), math.ceil(width / factor))
            planes = grid.transpose(1, 2).reshape(grid.shape[0], -1, height, width)
            grids.append(functional.interpolate(planes, size=size, mode=method).flatten(2).transpose(1, 2))
    return torch.cat(grids, dim=1)


def project(linear: nn.Module, tokens: Tensor) -> Tensor:
    """A projection by its weights alone: calling the module would call its hooks."""
    return functional.linear(tokens, linear.weight, linear.bias)


def attend(attention: nn.Module, queries: Tensor, keys: Tensor, values: Tensor | None = None) -> Tensor:
    """softmax(q·Kᵀ/√d)·V, head by head, keys and values projected from the tokens given."""
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
    unet: nn.Module, path: str, height: int, width: int, factor: float, method: str = "nearest", corner: Corner = None
) -> None:
    """Makes every self-attention of the transformer at `path` compute the plain reference."""
    for block in unet.get_submodule(path).transformer_blocks:

        def forward(self, x, context=None, mask=None, **others):
            assert x.shape[1] == height * width, "the reference was told another grid"
            whole = x if context is None else context
            return attend(self, x, subsample(whole, height, width, factor, method, corner))

        block.attn1.forward = types.MethodType(forward, block.attn1)
