"""Downsampling of one token grid, compared with torch's interpolation and with a plain reference."""

from __future__ import annotations

import math
from bisect import bisect
from collections import Counter
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from tests.unit.plain_attention import OFFSETS, expected_indices, subsample
from todo.downsample import compiled_index, kept_index, kept_indices, kept_size, phase_order, positions, select

METHODS = ("nearest", "nearest-exact")
methods = pytest.mark.parametrize("method", METHODS)
sides = st.integers(1, 40)
quarters = st.integers(4, 32).map(lambda quarter: quarter / 4)


def downsample(tokens, grid, factor: float, method: str, step: int | None = None) -> torch.Tensor:
    return select(tokens, kept_index(grid, factor, method, step, tokens.device), grid)


def numbered(h: int, w: int) -> torch.Tensor:
    """Tokens whose only channel is their raster index."""
    return torch.arange(h * w, dtype=torch.float64).reshape(1, h * w, 1)


def seen(h: int, w: int, factor: float, method: str, step: int | None = None) -> list[int]:
    return downsample(numbered(h, w), (h, w), factor, method, step).flatten().int().tolist()


def interpolated(tokens: torch.Tensor, h: int, w: int, method: str, factor: int) -> torch.Tensor:
    planes = tokens.transpose(1, 2).reshape(tokens.shape[0], -1, h, w)
    return functional.interpolate(planes, scale_factor=1 / factor, mode=method).flatten(2).transpose(1, 2)


@given(st.integers(1, 8), st.integers(1, 6), st.integers(1, 6), st.sampled_from(METHODS), st.integers(1, 3))
def test_equals_torch_interpolation_if_the_factor_divides_the_sides(factor, rows, columns, method, batch):
    h, w = factor * rows, factor * columns
    tokens = torch.randn(batch, h * w, 5)
    expected = interpolated(tokens, h, w, method, factor)
    kept = downsample(tokens, (h, w), factor, method)
    assert kept.shape == (batch, rows * columns, 5)
    assert torch.equal(kept, expected)


@given(sides, sides, quarters)
def test_nearest_follows_the_rule_at_any_size_and_quarter_factor(h, w, factor):
    rows = [math.floor(i * factor) for i in range(math.ceil(h / factor))]
    columns = [math.floor(i * factor) for i in range(math.ceil(w / factor))]
    assert seen(h, w, factor, "nearest") == [row * w + column for row in rows for column in columns]


@given(st.integers(1, 200), quarters)
def test_nearest_exact_follows_the_rule_at_any_size_and_quarter_factor(side, factor):
    """If a centre lies in the next cell or beyond the last, the rule does not say which row is kept instead."""
    starts = [math.floor(i * factor) for i in range(math.ceil(side / factor))]
    ends = [*starts[1:], side]
    for kept in (seen(1, side, factor, "nearest-exact"), seen(side, 1, factor, "nearest-exact")):
        assert len(kept) == len(starts)
        for i, (line, end) in enumerate(zip(kept, ends, strict=True)):
            centre = math.floor((i + 0.5) * factor)
            assert line == centre or centre >= end


@pytest.mark.parametrize(
    ("side", "factor", "nearest", "exact"),
    [
        (5, 2, [0, 2, 4], [1, 3, 4]),
        (8, 3, [0, 3, 6], [1, 4, 7]),
        (9, 4, [0, 4, 8], [2, 6, 8]),
        (6, 1.5, [0, 1, 3, 4], [0, 2, 3, 5]),
        (7, 2.5, [0, 2, 5], [1, 3, 6]),
        (3, 8, [0], [2]),
        (1, 2, [0], [0]),
    ],
)
def test_examples_worked_out_by_hand(side, factor, nearest, exact):
    assert seen(1, side, factor, "nearest") == nearest
    assert seen(side, 1, factor, "nearest") == nearest
    assert seen(1, side, factor, "nearest-exact") == exact
    assert seen(side, 1, factor, "nearest-exact") == exact


@methods
@example(h=1, w=9, factor=1.25)
@given(h=sides, w=sides, factor=st.floats(1, 8))
def test_the_fixed_grid_keeps_one_token_of_each_cell(method, h, w, factor):
    """For a factor close to a fraction, floor(i · factor) may differ between floats and exact numbers."""
    kept = seen(h, w, factor, method)
    assert len(set(kept)) == len(kept) == math.ceil(h / factor) * math.ceil(w / factor)
    starts = [
        sorted({min(math.floor(i * factor), side - 1) for i in range(math.ceil(side / factor))}) for side in (h, w)
    ]
    found = [
        tuple(bisect(begins, line) for begins, line in zip(starts, divmod(token, w), strict=True)) for token in kept
    ]
    assert found == sorted(set(found))


@methods
@example(h=9, w=9, factor=1.25, step=1)
@given(h=sides, w=sides, factor=st.floats(1, 8), step=st.integers(0, 200))
def test_a_moving_pattern_keeps_a_token_that_touches_each_cell(method, h, w, factor, step):
    """Cells have equal widths. In each row and column of cells, no token is kept twice."""
    rows, columns = math.ceil(h / factor), math.ceil(w / factor)
    kept = [divmod(token, w) for token in seen(h, w, factor, method, step)]
    assert len(kept) == rows * columns
    for index, token in enumerate(kept):
        for number, line, side, count in zip(divmod(index, columns), token, (h, w), (rows, columns), strict=True):
            assert line < (number + 1) * Fraction(side, count)
            assert line + 1 > number * Fraction(side, count)
    for index in range(rows):
        assert len({column for _, column in kept[index * columns : (index + 1) * columns]}) == columns
    for index in range(columns):
        assert len({row for row, _ in kept[index::columns]}) == rows


@given(sides, sides, quarters, st.sampled_from(METHODS), st.integers(0, 100))
def test_neighbouring_cells_have_different_offsets(h, w, factor, method, step):
    cell = positions((h, w), factor)
    offset = [Fraction(position, cell) for position in phase_order(cell)[step % cell**2]]
    assert seen(h, w, factor, method, step) == expected_indices(h, w, factor, method, offset)


@pytest.mark.parametrize(
    ("grid", "factor", "expected"),
    [((8, 12), 2, 2), ((9, 12), 3, 3), ((64, 64), 3, 8), ((13, 9), 2, 8), ((48, 48), 1.5, 8), ((99, 99), 9.5, 10)],
)
def test_positions(grid, factor, expected):
    assert positions(grid, factor) == expected


@given(st.integers(2, 8), st.integers(2, 6), st.integers(2, 6), st.integers(0, 100))
def test_a_step_covers_as_many_rows_and_columns_as_possible(factor, rows, columns, step):
    """The paper's grid only covers every factor-th row and column."""
    tokens = [
        divmod(token, factor * columns) for token in seen(factor * rows, factor * columns, factor, "nearest", step)
    ]
    assert len({row for row, _ in tokens}) == rows * min(factor, columns)
    assert len({column for _, column in tokens}) == columns * min(factor, rows)


@given(sides, sides, st.floats(1, 8), st.sampled_from(METHODS))
def test_number_kept(h, w, factor, method):
    assert downsample(numbered(h, w), (h, w), factor, method).shape[1] == kept_size(h, factor) * kept_size(w, factor)
    assert kept_size(h, factor) == math.ceil(h / factor)


@given(
    st.integers(1, 20),
    st.integers(1, 20),
    st.integers(4, 20).map(lambda quarter: quarter / 4),
    st.sampled_from(METHODS),
)
def test_a_cycle_uses_every_token_and_keeps_the_same_number_at_each_step(h, w, factor, method):
    cycle = positions((h, w), factor) ** 2
    steps = [seen(h, w, factor, method, step) for step in range(cycle)]
    assert {token for step in steps for token in step} == set(range(h * w))
    assert {len(step) for step in steps} == {len(steps[0])}
    assert seen(h, w, factor, method, cycle) == steps[0]
    assert seen(h, w, factor, method, 2 * cycle + 1) == steps[1 % cycle]


@given(st.integers(1, 20), st.integers(1, 20), quarters, st.sampled_from(METHODS))
def test_a_cycle_uses_every_token_about_equally_often(h, w, factor, method):
    """A row contains as many whole positions as its share of them, rounded up or down."""
    cell = positions((h, w), factor)
    times = Counter(token for step in range(cell**2) for token in seen(h, w, factor, method, step))
    shares = [math.ceil(side / factor) * cell / side for side in (h, w)]
    fewest, most = (math.prod(map(rounded, shares)) for rounded in (math.floor, math.ceil))
    assert {fewest <= times[token] <= most for token in range(h * w)} == {True}


@given(st.integers(1, 8), st.integers(1, 5), st.integers(1, 5), st.sampled_from(METHODS))
def test_a_cycle_uses_every_token_once_if_the_factor_divides_the_sides(factor, rows, columns, method):
    h, w = factor * rows, factor * columns
    tokens = [token for step in range(factor**2) for token in seen(h, w, factor, method, step)]
    assert sorted(tokens) == list(range(h * w))


def test_the_order_at_two():
    firsts = [divmod(seen(4, 6, 2, "nearest", step)[0], 6) for step in range(5)]
    assert firsts == [tuple(2 * part for part in offset) for offset in (*OFFSETS, OFFSETS[0])]
    for step, offset in enumerate(OFFSETS):
        expected = subsample(numbered(5, 7), 5, 7, 2, "nearest", offset)
        assert torch.equal(downsample(numbered(5, 7), (5, 7), 2, "nearest", step), expected)


@pytest.mark.parametrize("cell", range(1, 10))
def test_phase_order_contains_each_offset_once(cell):
    order = phase_order(cell)
    assert order[0] == (0, 0)
    assert sorted(order) == [(row, column) for row in range(cell) for column in range(cell)]


def bit_reversed(cell):
    """The order of ordered dithering: the quarters of the cell in turn, diagonal ones first, then their quarters."""
    if cell == 1:
        return [(0, 0)]
    corners = ((0, 0), (1, 1), (0, 1), (1, 0))
    half = cell // 2
    return [(r + down * half, c + across * half) for r, c in bit_reversed(half) for down, across in corners]


@pytest.mark.parametrize("cell", [2, 4])
def test_phase_order_is_that_of_ordered_dithering(cell):
    assert list(phase_order(cell)) == bit_reversed(cell)


@pytest.mark.parametrize("cell", [3, 4, 8])
def test_successive_offsets_lie_apart(cell):
    """They are not adjacent while there is a choice, which is for the first cell² / 4 steps."""
    order = phase_order(cell)[: max(cell * cell // 4, 2)]
    for before, after in pairwise(order):
        gaps = [min((a - b) % cell, (b - a) % cell) for a, b in zip(before, after, strict=True)]
        assert max(gaps) > 1 or cell == 3


@methods
@pytest.mark.parametrize(("grid", "factor"), [((8, 12), 2), ((13, 9), 2), ((10, 7), 2.5), ((9, 9), 3)])
@pytest.mark.parametrize("step", [0, 1, 3])
def test_each_of_several_grids_is_downsampled_separately(method, grid, factor, step):
    h, w = grid
    chunks = [torch.randn(2, h * w, 3) for _ in range(3)]
    alone = [downsample(chunk, grid, factor, method, step) for chunk in chunks]
    assert torch.equal(downsample(torch.cat(chunks, dim=1), grid, factor, method, step), torch.cat(alone, dim=1))


@methods
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize(("grid", "factor"), [((8, 12), 2), ((13, 9), 2)])
def test_dtypes(method, dtype, grid, factor):
    tokens = torch.randn(2, math.prod(grid), 4).to(dtype)
    kept = downsample(tokens, grid, factor, method)
    expected = downsample(tokens.double(), grid, factor, method)
    assert kept.dtype == dtype
    assert torch.equal(kept.double(), expected)


@methods
@pytest.mark.parametrize(("grid", "factor"), [((8, 12), 2), ((13, 9), 2), ((8, 12), 1.5)])
def test_non_contiguous_input(method, grid, factor):
    contiguous = torch.randn(2, math.prod(grid), 4)
    turned = contiguous.transpose(1, 2).contiguous().transpose(1, 2)
    spread = torch.stack([contiguous, torch.zeros_like(contiguous)], dim=-1)[..., 0]
    assert not turned.is_contiguous()
    assert not spread.is_contiguous()
    expected = downsample(contiguous, grid, factor, method, 1)
    for tokens in (turned, spread):
        torch.testing.assert_close(downsample(tokens, grid, factor, method, 1), expected)


@methods
@pytest.mark.parametrize(("grid", "factor"), [((6, 8), 2), ((7, 9), 2)])
def test_gradient(method, grid, factor):
    tokens = torch.randn(1, math.prod(grid), 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda given: downsample(given, grid, factor, method, 1), (tokens,))


@methods
def test_an_index_made_in_inference_mode_can_be_used_in_training(method):
    grid, step = (11, 15), 3
    tokens = torch.randn(1, math.prod(grid), 3, requires_grad=True)
    with torch.inference_mode():
        index = kept_index(grid, 2.75, method, step, tokens.device)
    kept = select(tokens, index, grid)
    kept.sum().backward()
    assert tokens.grad.sum() == kept.numel()


@methods
@given(sides, sides, st.floats(1, 12), st.integers(0, 300))
def test_the_index_that_compiled_code_works_out(method, h, w, factor, step):
    """From a tensor, so that it need not be compiled anew for each step."""
    cpu = torch.device("cpu")
    for number, told in ((None, None), (step, torch.tensor(step))):
        expected = kept_indices((h, w), factor, method, number).flatten()
        assert torch.equal(compiled_index((h, w), factor, method, told, cpu), expected)


@methods
def test_the_default_device_does_not_matter(method):
    phase_order.cache_clear()
    expected = seen(9, 7, 3, method, 2)
    phase_order.cache_clear()
    tokens = numbered(9, 7)
    with torch.device("meta"):
        kept = downsample(tokens, (9, 7), 3, method, 2)
    phase_order.cache_clear()
    assert kept.flatten().int().tolist() == expected


VIEWS = ("view", "_unsafe_view", "reshape", "detach", "alias")


class Recorder(TorchDispatchMode):
    """Records the ATen operations, and the results that are not views of an input."""

    def __init__(self):
        super().__init__()
        self.names: list[str] = []
        self.copied: list[torch.Tensor] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.names.append(func.overloadpacket.__name__)
        given = {arg.untyped_storage().data_ptr() for arg in args if isinstance(arg, torch.Tensor)}
        results = result if isinstance(result, (list, tuple)) else [result]
        self.copied += [each for each in results if each.untyped_storage().data_ptr() not in given]
        return result


@pytest.mark.parametrize(
    ("grid", "factor"), [((6, 10), 2), ((6, 10), 2.0), ((24, 40), 8), ((13, 9), 2), ((8, 8), 1.75)]
)
@pytest.mark.parametrize("chunks", [1, 2])
@pytest.mark.parametrize("step", [None, 0, 1, 7])
@methods
def test_only_the_kept_tokens_are_copied(grid, factor, chunks, step, method):
    tokens = torch.randn(2, chunks * math.prod(grid), 8)
    index = kept_index(grid, factor, method, step, tokens.device)
    with Recorder() as recorder:
        kept = select(tokens, index, grid)
    assert [name for name in recorder.names if name not in VIEWS] == ["index_select"]
    assert len(recorder.copied) == 1
    assert (
        recorder.copied[0].numel()
        == kept.numel()
        == 2 * chunks * kept_size(grid[0], factor) * kept_size(grid[1], factor) * 8
    )


def test_the_recorder_detects_copies():
    tokens = torch.randn(1, 25, 2)
    with Recorder() as recorder:
        select(tokens + 0, kept_indices((5, 5), 2, "nearest", 1).flatten(), (5, 5))
    assert {"arange", "add"} <= set(recorder.names)
    assert len(recorder.copied) > 1


@methods
@example(side=147, kept=122)
@given(side=st.integers(1, 600), kept=st.integers(16, 128))
def test_kept_rows_at_the_factors_of_auto_mode(method, side, kept):
    factor = max(side / kept, 1.0)
    for phase in (None, *range(math.ceil(factor))):
        lines = kept_indices((side, 1), factor, method, phase).flatten().tolist()
        assert lines == sorted(set(lines))
        assert 0 <= lines[0] <= lines[-1] < side
