"""Times one UNet call by several settings in turn, until the figures stand still. Knows a UNet, no host."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from torch.nn import Module

from todo.block import BlockReport
from todo.patch import patched
from todo.settings import Settings
from todo.timing import is_out_of_memory, peak_memory, rotated, wait

SECONDS = 20.0
"""After which no new call begins, once each of the settings has been timed."""
FEWEST = 4
"""Rounds that are needed to tell whether figures stand still."""
STEADY = 0.01
"""They do when the standard error of each ratio to the first settings' is below this share of it."""


@dataclass
class Timed:
    """What came of one of the settings: a figure for each round it was in, the first one a warm-up's."""

    settings: Settings | None
    rounds: dict[int, float] = field(default_factory=dict)
    peak: int | None = None
    out_of_memory: bool = False
    report: list[BlockReport] = field(default_factory=list)

    @property
    def seconds(self) -> float | None:
        """A call's time; None where none was made, or memory did not suffice for all."""
        figures = _settled(self.rounds)
        return statistics.median(figures.values()) if figures and not self.out_of_memory else None

    def ratios(self, other: Timed) -> list[float]:
        """How many times longer than this the other took, round by round."""
        mine, theirs = _settled(self.rounds), _settled(other.rounds)
        return [theirs[number] / mine[number] for number in mine if number in theirs]

    def times_faster(self, other: Timed) -> float | None:
        """How many times faster than the other; None where there is nothing to compare."""
        ratios = self.ratios(other)
        if ratios:
            return statistics.median(ratios)
        return other.seconds / self.seconds if self.seconds and other.seconds else None


def measure(
    unet: Module,
    call: Callable[[], object],
    settings: Sequence[Settings | None],
    hires: bool,
    device: torch.device,
    tell: Callable[[float], None],
) -> list[Timed]:
    """Times `call` of the UNet with each of the settings on it; None is the UNet as it is.

    Memory that does not suffice for one is that one's result, and the others go on.

    Args:
        hires: whether the call is one of the second pass of hires fix.
        tell: is given the share of the time that is over, 0 to 1, before each call; may raise to end it all.
    """
    timed = [Timed(each) for each in settings]
    start = time.perf_counter()
    # Whatever the first call of all sets up is not to count as any one's.
    tell(0.0)
    _time(unet, call, timed[0], 0, hires, device)
    timed[0].rounds.clear()
    number = 0
    while alive := [each for each in timed if not each.out_of_memory]:
        for each in rotated(alive, number):
            spent = time.perf_counter() - start
            tell(min(spent / SECONDS, 1.0))
            if spent < SECONDS or not each.rounds:
                _time(unet, call, each, number, hires, device)
        number += 1
        if time.perf_counter() - start >= SECONDS or _steady(alive):
            break
    return timed


def _time(
    unet: Module, call: Callable[[], object], timed: Timed, number: int, hires: bool, device: torch.device
) -> None:
    """One call. Putting the settings on and off is not timed."""
    try:
        with patched(unet, timed.settings) if timed.settings else nullcontext() as patch:
            if patch:
                patch.at(number, 0, hires)
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


def _steady(timed: Sequence[Timed]) -> bool:
    first = timed[0]
    if len(_settled(first.rounds)) < FEWEST:
        return False
    return all(_relative_error(each.ratios(first)) < STEADY for each in timed)


def _relative_error(figures: Sequence[float]) -> float:
    return statistics.stdev(figures) / math.sqrt(len(figures)) / statistics.mean(figures) if len(figures) > 1 else 1.0


def _settled(rounds: dict[int, float]) -> dict[int, float]:
    """Without the warm-up, if there is any other."""
    return {number: figure for number, figure in rounds.items() if number > 0} or rounds
