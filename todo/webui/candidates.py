"""The settings that a measurement times beside those on the page."""

from __future__ import annotations

from dataclasses import replace

from ..plan import plan
from ..settings import KNOBS, Settings
from . import host
from .figures import Pass

_PER_SIDE, _RATIOS = (1.5, 1.0, 0.75, 0.5), (0.75, 1.0, 1.5, 2.0)
"""The settings to time, as multiples of the keys/values per side or of the ratio on the page."""


def candidates(settings: Settings, hires: bool) -> list[Settings]:
    """The settings to time: those given, and weaker and stronger ones, from the weakest to the strongest.

    They differ in one knob only. All are on in every step at their full ratio.
    """
    steady = replace(settings, start=0.0, end=1.0, taper=False)
    name = strength_knob(settings, hires)
    value, knob = getattr(settings, name), KNOBS[name]
    wanted = [value * multiple for multiple in (_PER_SIDE if name == "grid" else _RATIOS)]
    within = {value} | {knob.kind(each) for each in wanted if max(knob.minimum, 1) <= each <= knob.maximum}
    return [replace(steady, **{name: each}) for each in sorted(within, reverse=name == "grid")]


def strength_knob(settings: Settings, hires: bool) -> str:
    """The name of the knob that decides how many keys/values the finest level keeps."""
    if settings.mode == "auto":
        return "grid"
    return "hires_factor" if hires and settings.hires_factor else "factor"


def no_effect(current: Pass, settings: Settings) -> str:
    """'no effect …' if none of the candidates acts in a pass, so that there is nothing to measure; else ''."""
    family = host.family(host.loaded_model())
    if family is None:
        return ""
    predicted = [
        plan(current.width, current.height, each, family, current.hires) for each in candidates(settings, current.hires)
    ]
    return predicted[0].note if all(each.note for each in predicted) else ""
