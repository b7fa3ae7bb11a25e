"""When figures stand still, and what is made of them."""

from __future__ import annotations

import pytest
import torch

from tests.unit.small_models import ldm_unet


class Clock:
    """Time that goes on only where a test lets it."""

    def __init__(self, monkeypatch, rounds):
        self.now = 0.0
        monkeypatch.setattr(rounds.time, "perf_counter", lambda: self.now)


@pytest.fixture
def rounds(host):
    return host.ours("webui.rounds")


@pytest.fixture
def settings(host):
    return host.ours("settings").Settings


@pytest.fixture
def clock(monkeypatch, rounds):
    return Clock(monkeypatch, rounds)


@pytest.fixture(scope="module")
def unet():
    return ldm_unet()


def run(rounds, unet, settings, call, tell=lambda share: None):
    return rounds.measure(unet, call, settings, False, torch.device("cpu"), tell)


def ticking(clock, durations):
    """A call that takes the next of `durations`, the last one for ever."""
    left = list(durations)

    def call():
        clock.now += left.pop(0) if len(left) > 1 else left[0]

    return call


def test_it_ends_when_the_ratios_stand_still(rounds, unet, settings, clock):
    dense, todo = run(rounds, unet, [None, settings()], ticking(clock, [0.1]))
    assert len(dense.rounds) == len(todo.rounds) == rounds.FEWEST + 1
    assert todo.times_faster(dense) == pytest.approx(1.0)


def test_the_first_round_is_a_warm_up(rounds, unet, clock):
    (dense,) = run(rounds, unet, [None], ticking(clock, [5.0, 5.0, 0.1]))
    assert dense.seconds == pytest.approx(0.1)


def test_it_ends_when_time_is_over(rounds, unet, settings, clock):
    """The ratio never stands still: every other round ToDo takes three times as long."""
    durations = [1.0, *[1.0, 1.0, 1.0, 3.0] * 20]
    timed = run(rounds, unet, [None, settings()], ticking(clock, durations))
    assert rounds.SECONDS <= clock.now < rounds.SECONDS + 4
    assert all(each.rounds for each in timed)


def test_a_call_longer_than_the_time_is_made_once(rounds, unet, settings, clock):
    timed = run(rounds, unet, [None, settings(), settings(grid=32)], ticking(clock, [100.0]))
    assert [len(each.rounds) for each in timed] == [1, 1, 1]
    assert timed[2].times_faster(timed[0]) == pytest.approx(1.0)


def test_ratios_are_of_the_same_round(rounds):
    """The machine was ten times slower in one of the rounds."""
    dense, todo = rounds.Timed(None, {0: 9.0, 1: 2.0, 2: 20.0, 3: 2.0}), rounds.Timed(None, {1: 1.0, 2: 10.0, 3: 1.0})
    assert todo.ratios(dense) == [2.0, 2.0, 2.0]
    assert todo.times_faster(dense) == 2.0
    assert rounds.Timed(None).times_faster(dense) is None


def test_memory_that_does_not_suffice_is_that_ones_result(rounds, unet, settings, clock):
    attention = unet.get_submodule("input_blocks.1.1").transformer_blocks[0].attn1

    def call():
        clock.now += 0.1
        if not attention.to_k._forward_pre_hooks:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    dense, todo = run(rounds, unet, [None, settings()], call)
    assert dense.out_of_memory
    assert dense.seconds is None
    assert not todo.out_of_memory
    assert len(todo.rounds) > rounds.FEWEST
    assert todo.times_faster(dense) is None


def test_another_error_is_not_hidden(rounds, unet):
    with pytest.raises(RuntimeError, match="something else"):
        run(rounds, unet, [None], lambda: (_ for _ in ()).throw(RuntimeError("something else")))


def test_who_is_told_can_end_it(rounds, unet, clock):
    shares = []

    def tell(share):
        shares.append(share)
        if len(shares) == 3:
            raise KeyError("enough")

    with pytest.raises(KeyError):
        run(rounds, unet, [None], ticking(clock, [rounds.SECONDS / 4]), tell)
    assert shares == [0.0, 0.25, 0.5]
