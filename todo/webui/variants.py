"""The settings that are tried beside those on the page: by a measurement, which times them, and by a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..prediction import Phrase, Plan
from ..settings import KNOBS, Settings, SettingsError
from . import host
from .passes import Pass

_PER_SIDE, _RATIOS = (1.5, 1.0, 0.75, 0.5), (0.75, 1.0, 1.5, 2.0)
"""The settings to try, as multiples of the keys/values per side or of the ratio on the page."""


def strength_knob(settings: Settings, hires: bool) -> str:
    """The name of the knob that decides how many keys/values the finest level keeps."""
    if settings.mode == "auto":
        return "grid"
    return "hires_factor" if hires and settings.hires_factor else "factor"


def around(settings: Settings, name: str) -> list[Settings]:
    """Those given, and weaker and stronger ones, which differ in the knob `name` only: the weakest first."""
    value, knob = getattr(settings, name), KNOBS[name]
    wanted = [value * multiple for multiple in (_PER_SIDE if name == "grid" else _RATIOS)]
    within = {value} | {knob.kind(each) for each in wanted if max(knob.minimum, 1) <= each <= knob.maximum}
    return [replace(settings, **{name: each}) for each in sorted(within, reverse=name == "grid")]


def acting(tried: Sequence[Settings], passes: Sequence[Pass], chosen: Settings) -> list[Settings]:
    """Those of some settings that have an effect in one of the passes, on the loaded model, as far as can be told. Of
    several that keep the same tokens, those chosen or else the first remain."""
    by_effect: dict[tuple[Any, ...], Settings] = {}
    for each in sorted(tried, key=lambda settings: settings != chosen):
        effect = tuple(_kept(each, current) for current in passes)
        if any(effect):
            by_effect.setdefault(effect, each)
    return [each for each in tried if each in by_effect.values()]


def why_idle(settings: Settings, current: Pass) -> Phrase:
    """'no effect …' if settings have none in a pass, on the loaded model; empty if they have one, or if that cannot be
    told: the model or the size is one that `plan` does not know."""
    planned = _plan(settings, current)
    return planned.why if planned else ()


def _kept(settings: Settings, current: Pass) -> tuple[Any, ...]:
    """The tokens kept in a pass, by level; empty if settings have no effect; the settings if that is not known."""
    planned = _plan(settings, current)
    if planned is None:
        return (settings,)
    return () if planned.why else tuple(level.kept for level in planned.levels)


def _plan(settings: Settings, current: Pass) -> Plan | None:
    family = host.family(host.loaded_model())
    try:
        return current.plan(settings, family) if family else None
    except SettingsError:
        return None


def label(name: str, settings: Settings | None) -> Phrase:
    """What tells settings from the others that are tried: the value of the knob `name`. None is dense."""
    if settings is None:
        return ("dense",)
    return "{} per side" if name == "grid" else "ratio {}", f"{getattr(settings, name):g}"
