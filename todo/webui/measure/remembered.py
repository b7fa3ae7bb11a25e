"""The speed-ups that were measured since the WebUI was started, for the live line."""

from __future__ import annotations

from dataclasses import replace

from ...schedule import are_few
from ...settings import KNOBS, Settings
from .. import host
from ..passes import Pass

_Key = tuple[str, str, Pass, Settings]

_speed_ups: dict[_Key, float] = {}


def remember(measured: Pass, settings: Settings, speed_up: float) -> None:
    """Stores how many times faster than dense a step with these settings is, with the loaded model."""
    _speed_ups[_key(measured, settings)] = speed_up


def recall(wanted: Pass, settings: Settings) -> float | None:
    """What was measured for this pass and these settings with the loaded model; None if nothing was."""
    return _speed_ups.get(_key(wanted, settings))


def full_strength(settings: Settings) -> Settings:
    """The settings as they act in a step within the window, before a taper."""
    return replace(settings, start=0.0, end=1.0, taper=False)


def _key(measured: Pass, settings: Settings) -> _Key:
    """What the time of a step depends on. Knobs of the other mode and the choice of steps are not among that; of the
    number of steps, whether they are few."""
    others = {name: knob.default for name, knob in KNOBS.items() if knob.mode not in (None, settings.mode)}
    like = replace(measured, steps=int(are_few(measured.steps)))
    return host.checkpoint(host.loaded_model()), host.attention(), like, replace(full_strength(settings), **others)
