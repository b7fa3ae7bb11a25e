"""Settings as picture parameters, and back.

The key 'ToDo' holds the mode and says that ToDo was on; other knobs have keys of their own, written only where
they differ from the default.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from todo.settings import INFOTEXT_PREFIX, KNOBS, Knob, Settings, SettingsError
from todo.webui.log import logger
from todo.webui.request import ENABLED

ERROR = f"{INFOTEXT_PREFIX} error"
EFFECT = f"{INFOTEXT_PREFIX} effect"


def write(settings: Settings) -> dict[str, str]:
    """The picture parameters of `settings`."""
    values = settings.to_dict()
    return {
        knob.infotext: str(values[knob.name])
        for knob in KNOBS.values()
        if knob.name == "mode" or values[knob.name] != knob.default
    }


def clear(parameters: dict[str, Any]) -> None:
    """Takes what was asked for out of a generation's picture parameters, which a plot's pictures share."""
    for key in (*(knob.infotext for knob in KNOBS.values()), ERROR):
        parameters.pop(key, None)


def _read_enabled(parameters: dict[str, Any]) -> bool:
    return KNOBS["mode"].infotext in parameters


def _reader(knob: Knob) -> Callable[[dict[str, Any]], Any]:
    """A function from a picture's parameters to the knob's value; None leaves the control as it is."""

    def read(parameters: dict[str, Any]) -> Any:
        if not _read_enabled(parameters):
            return None
        try:
            return knob.parse(parameters.get(knob.infotext))
        except SettingsError as error:
            # The host would answer an exception, or a value of another type, with an error of its own.
            logger.warning("picture parameters: %s", error)
            return None

    return read


READERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    ENABLED.name: _read_enabled,
    **{name: _reader(knob) for name, knob in KNOBS.items()},
}
"""By control. The host matches the fields of two tabs by these objects when it sends a picture from one to the
other, so both must use the same ones."""
