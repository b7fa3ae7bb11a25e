"""The host's events during a comparison."""

from __future__ import annotations

import weakref
from copy import copy
from typing import Any

from ...settings import SettingsError
from .. import host, runs
from ..generation import OVERRIDES
from ..request import Compare, requested
from .comparison import Comparison
from .timing import TIMING, Timing


def prepare(p: Any, arguments: tuple[Any, ...], first_argument: int) -> None:
    """Before a generation: saves what the other runs will need, if the generation asks for a comparison.

    Args:
        arguments: the values of our controls.
        first_argument: the index of the first of them in `p.script_args`.
    """
    outer = getattr(p.scripts, "comparison", None)
    if outer is not None:
        if outer.owner() is not p:
            return  # a generation inside another one, which is compared as a whole
        p.scripts = outer.runner  # left over from a generation of the same `p` that failed
    try:
        wanted = requested(arguments, getattr(p, OVERRIDES, {}))
    except SettingsError:
        return  # `generation.begin` reports the error
    if wanted and wanted.compare is not Compare.OFF:
        p.scripts = _runner_with(Comparison(p, wanted, first_argument))


def begin_batch(p: Any, batch_number: int) -> None:
    """Before each batch: at the first one of a comparison, plans the other runs."""
    comparison = getattr(p.scripts, "comparison", None)
    if batch_number == 0 and comparison is not None and comparison.owner() is p:
        comparison.begin(p)


def step(params: Any) -> None:
    """Before a denoiser call. Must be the last of our callbacks, so that it times nothing but the call."""
    denoiser = host.denoiser(params)
    timing = getattr(denoiser.p, TIMING, None) if denoiser else None
    if timing:
        # Interrupting ends the first run after the image at work. What is missing in the others is only the comparison.
        if not timing.first and host.stopping():
            runs.interrupt()
        timing.start()
        _running[:] = [weakref.ref(timing)]


def step_done(params: Any) -> None:
    """After a denoiser call."""
    for timing in _running:
        if (current := timing()) is not None:
            current.stop()
    _running.clear()


def end_batch(p: Any) -> None:
    """After each batch. The host forgets that a batch was skipped when the next one begins."""
    timing = getattr(p, TIMING, None)
    if timing:
        timing.end_batch()


_running: list[weakref.ref[Timing]] = []
"""The Timing whose denoiser call is running, if any. The host's callback after a call does not name its generation."""


def _runner_with(comparison: Comparison) -> Any:
    """A copy of the host's script runner that makes the comparison after all scripts have finished.

    Other extensions may copy this runner for a generation inside this one. The copy has the same class, which is why
    it checks whose generation has finished.
    """
    kind = type(comparison.runner)

    class Runner(kind):  # type: ignore[misc, valid-type]
        def postprocess(self, p: Any, processed: Any) -> None:
            super().postprocess(p, processed)
            if p is self.comparison.owner():
                self.comparison.complete(p, processed)

    runner = copy(comparison.runner)
    runner.__class__ = Runner
    runner.comparison = comparison
    return runner
