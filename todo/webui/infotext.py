"""Settings as generation parameters (infotext), and back.

The key 'ToDo' holds the mode and means that ToDo was on. Every other knob that acts in that mode has its own key, even
at its default: so an image comes back whatever later defaults are. The version is for whoever reads it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from ..settings import INFOTEXT_PREFIX, KNOBS, Knob, Settings, SettingsError
from ..version import __version__
from .log import logger
from .request import ENABLED, message_for_page

VERSION = f"{INFOTEXT_PREFIX} version"
ERROR = f"{INFOTEXT_PREFIX} error"
EFFECT = f"{INFOTEXT_PREFIX} effect"


def write(settings: Settings) -> dict[str, str]:
    """The generation parameters of `settings`, by key."""
    values = settings.to_dict()
    acting = [knob for knob in KNOBS.values() if knob.mode in (None, settings.mode)]
    return {**{knob.infotext: str(values[knob.name]).removesuffix(".0") for knob in acting}, VERSION: __version__}


def clear(parameters: dict[str, Any]) -> None:
    """Removes our keys from the parameters of a generation. All images of an X/Y/Z plot share one dict."""
    for key in (*(knob.infotext for knob in KNOBS.values()), VERSION, ERROR, EFFECT):
        parameters.pop(key, None)


def page_value(knob: Knob, value: Any) -> Any:
    """A knob's value as its control holds it: a choice is text."""
    return str(value) if knob.choices else value


def _read(parameters: dict[str, Any]) -> dict[str, Any]:
    """The value of every knob in generation parameters; nothing if ToDo was off.

    Raises:
        SettingsError: a value is not allowed.
    """
    if KNOBS["mode"].infotext not in parameters:
        return {}
    return Settings.from_dict({name: parameters.get(knob.infotext) for name, knob in KNOBS.items()}).to_dict()


def _read_enabled(parameters: dict[str, Any]) -> bool | None:
    """Whether ToDo was on. None, which leaves a control as it is, if a value is wrong; then the page says why."""
    try:
        return bool(_read(parameters))
    except SettingsError as error:
        message = f"ToDo was not pasted: {message_for_page(error)}"
        logger.warning(message)
        gr.Warning(message)
        return None


def _reader(knob: Knob) -> Callable[[dict[str, Any]], Any]:
    """A function from generation parameters to the knob's value; None leaves the control as it is."""

    def read(parameters: dict[str, Any]) -> Any:
        try:
            values = _read(parameters)
        except SettingsError:
            return None
        return page_value(knob, values[knob.name]) if values else None

    return read


READERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    ENABLED.name: _read_enabled,
    **{name: _reader(knob) for name, knob in KNOBS.items()},
}
"""The function for each control. When the host sends an image from one tab to the other, it matches their controls by
these objects, so both tabs must use the same ones."""
