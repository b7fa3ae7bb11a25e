"""The overhead of a step: no copy of a whole token grid, one gather for keys and values, no waiting for the device.

Operations and allocations are counted here. Times are measured by the benchmarks."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.unit.live_storage import LiveStorage
from tests.unit.small_models import level_inputs, one_level, run
from todo import Settings, apply_patch, remove_patch

GRID = (24, 30)
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


@pytest.fixture(params=SETTINGS, ids=["whole factor", "fraction", "centres", "fixed phase"])
def settings(request) -> Settings:
    return request.param


@pytest.fixture
def model():
    model = one_level()
    yield model
    remove_patch(model)


def allocations(model) -> list[int]:
    given = level_inputs(*GRID)
    with LiveStorage() as live:
        run(model, given)
    return live.allocated


def operations(model) -> Counter[str]:
    given = level_inputs(*GRID)
    with Operations() as counted:
        run(model, given)
    return counted.counts


def ideal(model, kept: int) -> Counter[int]:
    """The allocations if the kept tokens already exist, which is the minimum."""
    tokens = torch.zeros(1, kept, 32)
    projections = (model.attention.to_k, model.attention.to_v)
    handles = [each.register_forward_pre_hook(lambda *_: (tokens,)) for each in projections]
    try:
        return Counter(allocations(model))
    finally:
        for handle in handles:
            handle.remove()


def test_the_only_extra_allocation_is_one_gather_for_keys_and_values(model, settings):
    """There is no copy of all tokens, no copy of the kept tokens, and no second gather for the values."""
    whole = max(Counter(allocations(model)))
    patch = apply_patch(model, settings)
    for step in range(5):
        patch.at(step, 5)
        run(model, level_inputs(*GRID))  # the first call of a phase creates its indices
        made = Counter(allocations(model))
        kept = patch.report()[0].kept
        assert kept < GRID[0] * GRID[1]
        patch.remove()
        assert made == ideal(model, kept) + Counter([kept * 32 * 4])
        assert max(made) < whole  # the matrix of scores
        patch = apply_patch(model, settings)


def test_a_hypernetworks_values_are_gathered_too(model, settings):
    """They have separate inputs, so they need a separate gather."""
    handle = model.attention.to_v.register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    try:
        patch = apply_patch(model, settings)
        patch.at(0, 5)
        run(model, level_inputs(*GRID))
        made = Counter(allocations(model))
        kept = patch.report()[0].kept
        patch.remove()
        further = made - ideal(model, kept)
    finally:
        handle.remove()
    assert further[kept * 32 * 4] == 2


def test_nothing_waits_for_the_device(model, settings):
    dense = operations(model)
    patch = apply_patch(model, settings)
    for step in range(5):
        patch.at(step, 5)
        run(model, level_inputs(*GRID))  # the first call of a phase creates its indices
        further = operations(model) - dense
        waiting = ("_local_scalar_dense", "item", "nonzero", "_to_copy", "lift_fresh", "equal", "copy_")
        assert not [name for name in further if any(part in name for part in waiting)], further


def test_the_count_detects_waiting(model):
    """If `at` is never called, the phase depends on the timestep, which must be read from the device."""
    dense = operations(model)
    apply_patch(model, Settings(mode="manual", factor=2))
    assert any("_local_scalar_dense" in name for name in operations(model) - dense)


def test_outside_the_window_nothing_is_done(model):
    dense = operations(model)
    patch = apply_patch(model, Settings(mode="manual", factor=2, start=0.5))
    patch.at(0, 10)
    assert operations(model) == dense


def test_a_step_costs_one_operation_or_two(model, settings):
    """In addition to dense: a gather of tokens, and views."""
    dense = operations(model)
    patch = apply_patch(model, settings)
    patch.at(0, 10)
    run(model, level_inputs(*GRID))
    further = operations(model) - dense
    assert sum(further.values()) <= 8, further
