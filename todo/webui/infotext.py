"""Settings as generation parameters (infotext), and back.

The key 'ToDo' holds the mode and means that ToDo was on. Every other knob that acts in that mode has its own key, even
at its default: so an image comes back whatever later defaults are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..settings import INFOTEXT_PREFIX, KNOBS, Knob, Settings, SettingsError
from .log import logger
from .request import ENABLED

ERROR = f"{INFOTEXT_PREFIX} error"
EFFECT = f"{INFOTEXT_PREFIX} effect"


def write(settings: Settings) -> dict[str, str]:
    """The generation parameters of `settings`, by key."""
    values = settings.to_dict()
    return {
        knob.infotext: str(values[knob.name]).removesuffix(".0")
        for knob in KNOBS.values()
        if knob.mode in (None, settings.mode)
    }


def clear(parameters: dict[str, Any]) -> None:
    """Removes our keys from the parameters of a generation. All images of an X/Y/Z plot share one dict."""
    for key in (*(knob.infotext for knob in KNOBS.values()), ERROR):
        parameters.pop(key, None)


def page_value(knob: Knob, value: Any) -> Any:
    """A knob's value as its control holds it: a choice is text."""
    return str(value) if knob.choices else value


def _read_enabled(parameters: dict[str, Any]) -> bool:
    return KNOBS["mode"].infotext in parameters


def _reader(knob: Knob) -> Callable[[dict[str, Any]], Any]:
    """A function from generation parameters to the knob's value; None leaves the control as it is."""

    def read(parameters: dict[str, Any]) -> Any:
        if not _read_enabled(parameters):
            return None
        try:
            return page_value(knob, knob.parse(parameters.get(knob.infotext, knob.default)))
        except SettingsError as error:
            # Neither an exception nor a value of the wrong type: the host would fail on both.
            logger.warning("generation parameters: %s", error)
            return None

    return read


READERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    ENABLED.name: _read_enabled,
    **{name: _reader(knob) for name, knob in KNOBS.items()},
}
"""The function for each control. When the host sends an image from one tab to the other, it matches their controls by
these objects, so both tabs must use the same ones."""
