"""The host's events during a comparison."""

from __future__ import annotations

import weakref
from typing import Any

from .. import host, runs
from ..generation import WANTED
from ..log import logger
from ..request import Compare
from .clock import CLOCK, Clock
from .comparison import COMPARISON, Comparison

_STRAIGHT_TO_USER = ("modules.txt2img", "modules.img2img", "modules.api.api")
"""The modules that show or return whatever images a generation has."""
_DIRECTORY = "process_batch"
"""The function of a batch from a directory, in which further images would change the names of the files."""


def prepare(p: Any, first_argument: int) -> None:
    """Before a generation: saves what the other runs will need, if the generation asks for a comparison.

    Args:
        first_argument: the index of the first of our arguments in `p.script_args`.
    """
    wanted = getattr(p, WANTED)
    if not wanted or wanted.compare is Compare.OFF:
        return
    (module, function), *outer = host.callers()
    if outer:
        return  # a generation inside another one, which may be compared as a whole
    if module in _STRAIGHT_TO_USER and function != _DIRECTORY:
        Comparison(p, wanted, first_argument).attach(p)
        return
    caller = "a batch from a directory" if function == _DIRECTORY else f"“{module.removesuffix('.py')}”"
    note = f"Compare: nothing is compared where {caller} asks for the images; generate without it to compare"
    if note not in p.comments:  # which all images of an X/Y/Z plot share
        logger.info(note)
        p.comment(note)


def begin_batch(p: Any, batch_number: int) -> None:
    """Before each batch: at the first one of a comparison, plans the other runs."""
    comparison = getattr(p, COMPARISON, None)
    if batch_number == 0 and comparison is not None and comparison.owner() is p:
        comparison.begin(p)


def step(denoiser: Any) -> None:
    """Before a denoiser call. Must be the last of our callbacks, so that it times nothing but the call."""
    clock = getattr(denoiser.p, CLOCK, None) if denoiser else None
    if clock:
        # Interrupting ends the first run after the image at work. What is missing in the others is only the comparison.
        if not clock.first and host.stopping():
            runs.interrupt()
        clock.start()
        _running[:] = [weakref.ref(clock)]


def step_done(params: Any) -> None:
    """After a denoiser call."""
    for clock in _running:
        if (current := clock()) is not None:
            current.stop()
    _running.clear()


def end_batch(p: Any) -> None:
    """After each batch. The host forgets that a batch was skipped when the next one begins."""
    clock = getattr(p, CLOCK, None)
    if clock:
        clock.end_batch()


_running: list[weakref.ref[Clock]] = []
"""The clock of the denoiser call that is running, if any. The host's callback after a call does not name its
generation."""
