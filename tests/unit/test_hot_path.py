"""What a step costs beside its arithmetic: no copy of a whole token grid, one gather for keys and values, no waiting
for the device. Counted by operations and allocations; time is measured by the benchmarks."""

from __future__ import annotations

from collections import Counter

import pytest
from small_models import image, one_level, run
from torch.utils._python_dispatch import TorchDispatchMode

from todo import Settings, apply_patch, remove_patch
from todo.bench.memory import LiveStorage

GRID = (24, 30)
TOKENS = 4 * 24 * 30 * 32
"""Bytes of all tokens of the grid, of 32 channels in float32."""

SETTINGS = [
    Settings(mode="manual", factor=2),
    Settings(mode="manual", factor=1.7),
    Settings(mode="manual", factor=4, method="nearest-exact"),
    Settings(mode="manual", factor=3.5, phase="fixed"),
]


class Operations(TorchDispatchMode):
    """Counts operations by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.counts[str(function)] += 1
        return function(*args, **(kwargs or {}))


@pytest.fixture(params=SETTINGS, ids=["slices", "indices", "centres", "fixed indices"])
def settings(request) -> Settings:
    return request.param


@pytest.fixture
def model():
    model = one_level()
    yield model
    remove_patch(model)


def allocations(model) -> list[int]:
    given = image(*GRID)
    with LiveStorage() as live:
        run(model, given)
    return live.made


def operations(model) -> Counter[str]:
    given = image(*GRID)
    with Operations() as counted:
        run(model, given)
    return counted.counts


def test_no_copy_of_the_whole_grid(model, settings):
    heads, queries = model.attention.heads, GRID[0] * GRID[1]
    dense = whole(allocations(model), scores=4 * heads * queries * queries)
    patch = apply_patch(model, settings)
    for step in range(4):
        patch.at(step, 4)
        made = allocations(model)
        kept = patch.report()[0].kept
        with_todo = whole(made, scores=4 * heads * queries * kept)
        # Keys and values, and their heads apart, are whole in the dense call only.
        assert with_todo < dense
        assert kept < queries


def whole(made: list[int], scores: int) -> Counter[int]:
    """Allocations as large as all tokens or larger, without the matrix of scores."""
    return Counter(size for size in made if size >= TOKENS and size != scores)


def test_one_gather_serves_keys_and_values(model, settings):
    patch = apply_patch(model, settings)
    kept = None
    for step in range(4):
        patch.at(step, 4)
        allocations(model)  # indices of the phase
        made = allocations(model)
        kept = patch.report()[0].kept * 32 * 4
        dense_like = Counter(made)[kept]
        # The gather, its projections to keys and to values, and the heads of each apart.
        assert dense_like <= 5, made
    assert kept


def test_nothing_waits_for_the_device(model, settings):
    dense = operations(model)
    patch = apply_patch(model, settings)
    for step in range(5):
        patch.at(step, 5)
        run(model, image(*GRID))  # the phase's first call makes its indices
        further = operations(model) - dense
        waiting = ("_local_scalar_dense", "item", "nonzero", "_to_copy", "lift_fresh", "equal", "copy_")
        assert not [name for name in further if any(part in name for part in waiting)], further


def test_outside_the_window_nothing_is_done(model):
    dense = operations(model)
    patch = apply_patch(model, Settings(mode="manual", factor=2, start=0.5))
    patch.at(0, 10)
    assert operations(model) == dense


def test_a_step_costs_one_operation_or_two(model, settings):
    """Beside what dense computes: a gather of tokens, and views."""
    dense = operations(model)
    patch = apply_patch(model, settings)
    patch.at(0, 10)
    run(model, image(*GRID))
    further = operations(model) - dense
    assert sum(further.values()) <= 8, further
