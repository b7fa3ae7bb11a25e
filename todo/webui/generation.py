"""ToDo during one generation: reads the request, applies the patch, sets the point of sampling at each step, reports,
removes the patch.

The state lives on the host's processing object `p`, never in a global. Another script may run its own generation in the
middle of this one, and a copy of `p` shares the state of its original.
"""

from __future__ import annotations

import logging
import weakref
from typing import Any

from torch.nn import Module

from ..patch import Patch, apply_quietly
from ..report import OTHER_MODEL, BlockReport, in_words, why_none
from ..settings import Settings, SettingsError
from ..unet import UnsupportedModelError, find_unet
from . import host, infotext
from .log import logger
from .request import message_for, requested

WANTED = "todo_wanted"
"""The attribute of `p` that holds what it asks for; None if ToDo is off."""
STATE = "todo_generation"
"""The attribute of `p` that holds its Generation."""
OVERRIDES = "todo_overrides"
"""The attribute of `p` that holds the values of the X/Y/Z plot, by name."""

NOT_ANNOUNCED = "on this WebUI, which did not report its sampling steps"

_live: weakref.WeakSet[Patch] = weakref.WeakSet()


class Generation:
    """A generation with ToDo on: the patch on the model that is in use, and the reports so far."""

    def __init__(self, p: Any, settings: Settings):
        self.owner = weakref.ref(p)
        self.settings = settings
        self.steps = 0
        self.unsupported = ""
        self._current: list[Patch] = []
        self._earlier: list[BlockReport] = []
        # A generation that fails never reaches `finish`. Its patch is removed with `p`, or by the next generation.
        weakref.finalize(p, _remove, self._current)

    def step(self, denoiser: Any) -> None:
        """Patches the model that is in use, unless it is patched already, and sets the point of sampling."""
        self.steps += 1
        model = host.loaded_model()
        try:
            unet = find_unet(host.unet_owner(model))
            patch = self._patch(unet, host.controlnets(model, denoiser.p) if self.settings.controlnet else [])
        except UnsupportedModelError as error:
            remove_all()
            logger.debug("%s", error)
            self.unsupported = OTHER_MODEL.format(host.kind(model))
            return
        patch.at(denoiser.step, denoiser.total_steps or 0, hires=bool(getattr(denoiser.p, "is_hr_pass", False)))

    def report(self) -> list[BlockReport]:
        """What happened so far, on all models."""
        return self._earlier + [row for patch in self._current for row in patch.report()]

    def why_no_effect(self) -> str:
        """Why no token was downsampled, to complete 'no effect …'; '' if one was, or before the first step."""
        reason = why_none(self.report(), self.settings) if self.steps else ""
        return reason and (self.unsupported or reason)

    def _patch(self, unet: Module, controlnets: list[Module]) -> Patch:
        networks = (unet, *controlnets)
        if not self._current or self._current[0].networks != networks or not self._current[0].attached:
            remove_all()
            # Keep the report, but not the patch, so that the host can free a model that it replaced.
            self._earlier = self.report()
            self._current[:] = [apply_quietly(unet, self.settings, controlnets)]
            _live.update(self._current)
        return self._current[0]


def prepare(p: Any, arguments: tuple[Any, ...]) -> None:
    """Before a generation: reads the request. If a value is invalid, the image is made dense and the error reported: to
    the page with its labels, to the API with the names of its dict."""
    wanted = None
    infotext.clear(p.extra_generation_params)
    try:
        wanted = requested(arguments, getattr(p, OVERRIDES, {}))
    except SettingsError as error:
        message = message_for(arguments, error)
        logger.error("ToDo error: %s", message)
        p.extra_generation_params[infotext.ERROR] = message
        p.comment(f"ToDo error: {message}")
    if wanted:
        p.extra_generation_params.update(infotext.write(wanted.settings))
    setattr(p, WANTED, wanted)


def begin(p: Any, arguments: tuple[Any, ...]) -> None:
    """At the beginning of a generation, which other extensions may repeat for one that is prepared."""
    remove_all()
    if not hasattr(p, WANTED):
        prepare(p, arguments)
    wanted = getattr(p, WANTED)
    setattr(p, STATE, Generation(p, wanted.settings) if wanted else None)


def step(denoiser: Any) -> None:
    """Before a denoiser call: patches the model if the call belongs to a generation with ToDo, else unpatches it."""
    generation = getattr(denoiser.p, STATE, None) if denoiser else None
    if generation:
        generation.step(denoiser)
        # ersatzForge writes the infotext before it asks scripts about the batch. By the last step the effect is known.
        if generation.steps > 1 and denoiser.step >= (denoiser.total_steps or 0) - 1:
            note_effect(denoiser.p)
    else:
        remove_all()


def why_no_effect(p: Any) -> str:
    """Why ToDo had no effect in a generation so far, to complete 'no effect …'; '' if it had one, or is off."""
    generation = getattr(p, STATE, None)
    return generation.why_no_effect() if generation else ""


def note_effect(p: Any) -> None:
    """Before the images of a batch are saved: notes in the infotext if ToDo had no effect."""
    if reason := why_no_effect(p):
        p.extra_generation_params[infotext.EFFECT] = f"none {reason}"
    else:
        p.extra_generation_params.pop(infotext.EFFECT, None)


def finish(p: Any, processed: Any) -> None:
    """After a generation, even an interrupted one: removes all patches and reports what was done."""
    remove_all()
    generation = getattr(p, STATE, None)
    # Other extensions call this in the middle of a generation with a copy of `p`. The generation then continues.
    if not generation or generation.owner() is not p:
        return
    ended_early = not generation.steps and host.ended()
    reason = generation.why_no_effect() if generation.steps else NOT_ANNOUNCED
    if reason and not ended_early:
        logger.log(logging.WARNING if generation.unsupported else logging.INFO, "no effect %s", reason)
        processed.comments += f"ToDo has no effect {reason}\n"
    elif generation.steps:
        unsupported = f"; no effect {generation.unsupported}" if generation.unsupported else ""
        logger.info("; ".join(in_words(generation.report())) + unsupported)


def remove_all() -> None:
    """Removes all our patches from all models."""
    _remove(list(_live))


def _remove(patches: list[Patch]) -> None:
    for patch in patches:
        patch.remove()
        _live.discard(patch)
