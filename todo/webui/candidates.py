"""The settings that are tried beside those on the page: by a measurement, which times them, and by a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..plan import Phrase, text
from ..settings import KNOBS, Settings, SettingsError
from . import host
from .figures import Pass

_PER_SIDE, _RATIOS = (1.5, 1.0, 0.75, 0.5), (0.75, 1.0, 1.5, 2.0)
"""The settings to try, as multiples of the keys/values per side or of the ratio on the page."""


def candidates(settings: Settings, hires: bool) -> list[Settings]:
    """The settings to time: those given, and weaker and stronger ones, from the weakest to the strongest.

    They differ in one knob only. All are on in every step at their full ratio.
    """
    return _around(replace(settings, start=0.0, end=1.0, taper=False), strength_knob(settings, hires))


def comparable(settings: Settings, passes: Sequence[Pass], name: str) -> list[Settings]:
    """The settings to compare: those given, and those of the weaker and stronger ones that act in one of the passes of
    the generation, from the weakest to the strongest. They differ in the knob `name` only."""
    family = host.family(host.loaded_model())
    return [each for each in _around(settings, name) if each == settings or _acts(each, passes, family)]


def strength_knob(settings: Settings, hires: bool) -> str:
    """The name of the knob that decides how many keys/values the finest level keeps."""
    if settings.mode == "auto":
        return "grid"
    return "hires_factor" if hires and settings.hires_factor else "factor"


def label_phrase(name: str, settings: Settings | None) -> Phrase:
    """What tells settings from the others that are tried: the value of the knob `name`. None is dense."""
    if settings is None:
        return ("dense",)
    return "{} per side" if name == "grid" else "ratio {}", f"{getattr(settings, name):g}"


def label(name: str, settings: Settings | None) -> str:
    """The same as text."""
    return text(label_phrase(name, settings))


def no_effect(current: Pass, settings: Settings) -> Phrase:
    """'no effect …' if none of the candidates acts in a pass, so that there is nothing to measure; else nothing."""
    family = host.family(host.loaded_model())
    if family is None:
        return ()
    whys = {each: current.plan(each, family).why for each in candidates(settings, current.hires)}
    name = strength_knob(settings, current.hires)
    chosen = next(each for each in whys if getattr(each, name) == getattr(settings, name))
    return whys[chosen] if all(whys.values()) else ()


def _around(settings: Settings, name: str) -> list[Settings]:
    value, knob = getattr(settings, name), KNOBS[name]
    wanted = [value * multiple for multiple in (_PER_SIDE if name == "grid" else _RATIOS)]
    within = {value} | {knob.kind(each) for each in wanted if max(knob.minimum, 1) <= each <= knob.maximum}
    return [replace(settings, **{name: each}) for each in sorted(within, reverse=name == "grid")]


def _acts(settings: Settings, passes: Sequence[Pass], family: str | None) -> bool:
    """Whether settings act in one of the passes, as far as can be told."""
    try:
        return family is None or any(not each.plan(settings, family).why for each in passes)
    except SettingsError:
        return True  # a size that `plan` does not know
