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

_STRAIGHT_TO_USER = {
    *(("modules.txt2img", name) for name in ("txt2img", "txt2img_function")),
    *(("modules.img2img", name) for name in ("img2img", "img2img_function")),
    *(("modules.api.api", name) for name in ("text2imgapi", "img2imgapi")),
}
"""Who shows or returns whatever images a generation has. A batch from a directory and the gallery's upscale button, in
the same modules, do not."""
_CONTROLNET_BATCH = "process_images_cn_batch"
"""The function in which sd-webui-controlnet makes many generations out of one."""
_OTHERS = {
    "process_batch": "a batch from a directory",
    "txt2img_upscale": "the gallery's upscale button",
    "txt2img_upscale_function": "the gallery's upscale button",
}
"""Names of further functions of the host that ask for generations."""


def prepare(p: Any, first_argument: int) -> None:
    """Before a generation: saves what the other runs will need, if the generation asks for a comparison.

    Args:
        first_argument: the index of the first of our arguments in `p.script_args`.
    """
    callers = host.callers()
    if len(callers) != 1:
        return  # a generation inside another one, which may be compared as a whole
    if earlier := _comparison(p):
        earlier.detach(p)  # of a generation of the same `p` that failed
    wanted = getattr(p, WANTED)
    if wanted and wanted.compare is not Compare.OFF:
        if callers[0] in _STRAIGHT_TO_USER:
            Comparison(p, wanted, first_argument).attach(p)
        else:
            module, function = callers[0]
            _note(p, _OTHERS.get(function, f"“{module.removesuffix('.py')}”"))


def begin_batch(p: Any, batch_number: int) -> None:
    """Before each batch: at the first one of a comparison, plans the other runs."""
    if batch_number == 0 and (comparison := _comparison(p)):
        if host.is_within(_CONTROLNET_BATCH):
            comparison.detach(p)
            _note(p, "a batch of ControlNet")
        else:
            comparison.begin(p)


def _comparison(p: Any) -> Comparison | None:
    """The comparison of a generation. A copy of `p` has it, too, but none of its own."""
    comparison = getattr(p, COMPARISON, None)
    return comparison if comparison is not None and comparison.owner() is p else None


def _note(p: Any, caller: str) -> None:
    note = f"Compare: nothing is compared where {caller} asks for the images; generate without it to compare"
    if note not in p.comments:  # which all images of an X/Y/Z plot share
        logger.info(note)
        p.comment(note)


def _clock(p: Any) -> Clock | None:
    clock = getattr(p, CLOCK, None)
    return clock if clock is not None and clock.owner() is p else None


def step(denoiser: Any) -> None:
    """Before a denoiser call. Must be the last of our callbacks, so that it times nothing but the call."""
    clock = _clock(denoiser.p) if denoiser else None
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
    if clock := _clock(p):
        clock.end_batch()


_running: list[weakref.ref[Clock]] = []
"""The clock of the denoiser call that is running, if any. The host's callback after a call does not name its
generation."""
