"""Timing in rounds: when it ends, and how the results are computed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.unit.small_models import ldm_unet


class Clock:
    """A clock that only advances when a test advances it."""

    def __init__(self, monkeypatch, rounds):
        self.now = 0.0
        monkeypatch.setattr(rounds.time, "perf_counter", lambda: self.now)


@pytest.fixture
def rounds(host):
    return host.ours("webui.measure.rounds")


@pytest.fixture
def settings(host):
    return host.Settings


@pytest.fixture
def clock(monkeypatch, rounds):
    return Clock(monkeypatch, rounds)


@pytest.fixture(scope="module")
def unet():
    return ldm_unet()


def run(rounds, unet, settings, call, on_progress=lambda done: None):
    return rounds.measure(unet, call, settings, (0, False), torch.device("cpu"), on_progress)


def ticking(clock, durations):
    """A call that takes the next of `durations`. The last one repeats."""
    left = list(durations)

    def call():
        clock.now += left.pop(0) if len(left) > 1 else left[0]

    return call


def test_it_ends_when_the_ratios_are_stable(rounds, unet, settings, clock):
    dense, todo = run(rounds, unet, [None, settings()], ticking(clock, [0.1]))
    assert len(dense.rounds) == len(todo.rounds) == rounds.FEWEST + 1
    assert todo.speed_up(dense).median == pytest.approx(1.0)


def test_the_first_round_is_a_warm_up(rounds, unet, clock):
    (dense,) = run(rounds, unet, [None], ticking(clock, [5.0, 5.0, 0.1]))
    assert dense.seconds == pytest.approx(0.1)


def test_it_ends_when_the_time_is_up(rounds, unet, settings, clock):
    """The ratio is never stable: in every other round ToDo takes three times as long."""
    durations = [1.0, *[1.0, 1.0, 1.0, 3.0] * 20]
    timed = run(rounds, unet, [None, settings()], ticking(clock, durations))
    assert rounds.SECONDS <= clock.now < rounds.SECONDS + 4
    assert all(each.rounds for each in timed)


def test_a_slow_machine_has_time_for_three_rounds(rounds, unet, settings, clock):
    timed = run(rounds, unet, [None, settings()], ticking(clock, [5.0]))
    assert [len(each.rounds) for each in timed] == [1 + rounds.LEAST_ROUNDS] * 2
    assert clock.now == 5 + 2 * 5 * (1 + rounds.LEAST_ROUNDS)


def test_a_call_longer_than_the_time_limit_is_made_once(rounds, unet, settings, clock):
    timed = run(rounds, unet, [None, settings(), settings(grid=32)], ticking(clock, [100.0]))
    assert [len(each.rounds) for each in timed] == [1, 1, 1]
    assert timed[2].speed_up(timed[0]).median == pytest.approx(1.0)


def test_ratios_are_computed_within_a_round(rounds):
    """In one of the rounds the machine was ten times slower."""
    dense, todo = rounds.Timed(None, {0: 9.0, 1: 2.0, 2: 20.0, 3: 2.0}), rounds.Timed(None, {1: 1.0, 2: 10.0, 3: 1.0})
    assert todo.speed_up(dense) == (2.0, 2.0, 2.0, 3)
    assert todo.speed_up(dense).is_steady


@pytest.mark.parametrize(
    ("times", "is_steady"), [([1.0, 1.02, 0.98, 1.01], True), ([1.0, 1.3, 0.8, 1.1], False), ([1.0], False)]
)
def test_ratios_that_scatter_are_not_steady(rounds, times, is_steady):
    dense, todo = rounds.Timed(None, dict.fromkeys(range(5), 2.0)), rounds.Timed(None, dict(enumerate([9.0, *times])))
    median, low, high, _ = todo.speed_up(dense)
    assert (low, median, high) == pytest.approx(np.quantile(2 / np.array(times), (0.25, 0.5, 0.75)))
    assert todo.speed_up(dense).is_steady is is_steady


def test_out_of_memory_is_a_result(rounds, unet, settings, clock):
    def call():
        clock.now += 0.1
        if not unet._forward_pre_hooks:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    dense, todo = run(rounds, unet, [None, settings()], call)
    assert dense.out_of_memory
    assert dense.seconds is None
    assert not todo.out_of_memory
    assert len(todo.rounds) > rounds.FEWEST
    assert todo.speed_up(dense) is None


def test_another_error_is_not_hidden(rounds, unet):
    with pytest.raises(RuntimeError, match="something else"):
        run(rounds, unet, [None], lambda: (_ for _ in ()).throw(RuntimeError("something else")))


def test_the_progress_callback_can_stop_it(rounds, unet, clock):
    reported = []

    def on_progress(done):
        reported.append(done)
        if len(reported) == 3:
            raise KeyError("enough")

    with pytest.raises(KeyError):
        run(rounds, unet, [None], ticking(clock, [rounds.SECONDS / 4]), on_progress)
    assert reported == [0.0, 0.0, 0.25]
