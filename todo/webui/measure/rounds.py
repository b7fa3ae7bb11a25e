"""Times one UNet call with several settings in turn, until the ratios are stable. Independent of the host."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch.nn import Module

from ...patch import patched_quietly
from ...report import BlockReport
from ...settings import Settings
from ...timing import is_out_of_memory, peak_memory, rotated, wait

SECONDS, LONGEST = 20.0, 60.0
"""No new call begins after the first time; while there are fewer than `LEAST_ROUNDS`, after the second. Each of the
settings is timed at least once."""
FEWEST = 4
"""The smallest number of rounds for estimating a standard error."""
STEADY = 0.01
"""The ratios are stable when the standard error of each mean ratio is below this fraction of it."""
SCATTER, LEAST_ROUNDS = 0.1, 3
"""A ratio says little when its quartiles are further apart than this fraction of it, or with fewer rounds."""


class SpeedUp(NamedTuple):
    """How many times faster one is than another: median and quartiles over a number of rounds."""

    median: float
    low: float
    high: float
    rounds: int

    @property
    def is_steady(self) -> bool:
        return self.rounds >= LEAST_ROUNDS and self.high - self.low <= SCATTER * self.median


@dataclass
class Timed:
    """The result for one of the settings.

    Attributes:
        settings: the settings; None is dense.
        rounds: seconds of the call, by number of the round. Round 0 is a warm-up.
        peak: peak device memory in bytes; None if the device does not track it.
        out_of_memory: whether a call ran out of memory.
        report: what the patch did in the last call.
    """

    settings: Settings | None
    rounds: dict[int, float] = field(default_factory=dict)
    peak: int | None = None
    out_of_memory: bool = False
    report: list[BlockReport] = field(default_factory=list)

    @property
    def seconds(self) -> float | None:
        """Median time of a call; None if one ran out of memory."""
        times = [self.rounds[number] for number in _counted(self.rounds)]
        return statistics.median(times) if times and not self.out_of_memory else None

    def speed_up(self, other: Timed) -> SpeedUp | None:
        """How many times faster this is than the other, compared within each round; None if either ran out of
        memory."""
        if self.out_of_memory or other.out_of_memory:
            return None
        ratios = self._ratios(other)
        low, _, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
        return SpeedUp(statistics.median(ratios), low, high, len(ratios))

    def is_stable(self, other: Timed) -> bool:
        """Whether further rounds would hardly change the ratio to another."""
        ratios = self._ratios(other)
        if len(ratios) < FEWEST:
            return False
        return statistics.stdev(ratios) / math.sqrt(len(ratios)) < STEADY * statistics.mean(ratios)

    def _ratios(self, other: Timed) -> list[float]:
        both = [number for number in self.rounds if number in other.rounds]
        return [other.rounds[number] / self.rounds[number] for number in _counted(both)]


def measure(
    unet: Module,
    call: Callable[[], object],
    settings: Sequence[Settings | None],
    at: tuple[int, bool],
    device: torch.device,
    on_progress: Callable[[float], None],
) -> list[Timed]:
    """Times a UNet call with each of the settings.

    If one of them runs out of memory, that is its result, and the others continue.

    Args:
        unet: the UNet to patch.
        call: calls the UNet once.
        settings: what to try; None is dense.
        at: the number of steps of the pass that the call belongs to, 0 if it is not known; and whether that is the
            hires pass of hires. fix.
        device: where the UNet runs.
        on_progress: called before each UNet call with the fraction of the time that has passed, 0 to 1. It may raise an
            exception to stop the measurement.

    Returns:
        The results, in the order of `settings`.
    """
    timed = [Timed(each) for each in settings]
    start = time.perf_counter()
    # The very first call may set up caches and kernels for all others, so its time does not count.
    on_progress(0.0)
    _time(unet, call, timed[0], 0, at, device)
    timed[0].rounds.clear()
    number = 0
    while alive := [each for each in timed if not each.out_of_memory]:
        limit = SECONDS if number > LEAST_ROUNDS else LONGEST
        for index, each in enumerate(rotated(alive, number)):
            spent = time.perf_counter() - start
            on_progress(min(spent / SECONDS, (number + index / len(alive)) / (LEAST_ROUNDS + 1), 1.0))
            if spent < limit or not each.rounds:
                _time(unet, call, each, number, at, device)
        number += 1
        if time.perf_counter() - start >= limit or all(each.is_stable(alive[0]) for each in alive):
            break
    return timed


def _time(
    unet: Module, call: Callable[[], object], timed: Timed, number: int, at: tuple[int, bool], device: torch.device
) -> None:
    """Makes and times one call. Applying and removing the patch is not timed."""
    try:
        with patched_quietly(unet, timed.settings) if timed.settings else nullcontext() as patch:
            if patch:
                steps, hires = at
                patch.at(number % steps if steps else number, steps, hires)
            with peak_memory(device) as peak:
                start = time.perf_counter()
                call()
                wait(device)
                timed.rounds[number] = time.perf_counter() - start
            timed.peak = peak.most
            timed.report = patch.report() if patch else []
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        timed.out_of_memory = True


def _counted(rounds: Iterable[int]) -> list[int]:
    """The rounds after the warm-up; the warm-up itself if there are no others."""
    return [number for number in rounds if number > 0] or list(rounds)
