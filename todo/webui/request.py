"""What a page or an API payload asks for: Settings, and whether to compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ..prediction import HEIGHT, WIDTH
from ..settings import KNOBS, Knob, Settings, SettingsError, implied_mode, unknown_name, with_labels
from .passes import BATCH_SIZE

ENABLED = Knob(
    name="enabled",
    kind=bool,
    default=False,
    label="ToDo · Token Downsampling",
    help="Speeds up image generation at high resolution: self-attention uses fewer keys/values.",
)
"""The switch. It comes before the knobs, both on the page and in the API's list."""


class Compare(Enum):
    """What the images are compared with. The values are the choices on the page."""

    OFF = "off"
    DENSE = "with dense"
    SETTINGS = "with neighbouring settings"


_COMPARE_WORDS = {
    **{each.value: each for each in Compare},
    **{"false": Compare.OFF, "0": Compare.OFF, "true": Compare.DENSE, "1": Compare.DENSE, "settings": Compare.SETTINGS},
}


class _CompareKnob(Knob):
    """In the API it is false, true or 'settings'; on the page, one of its choices, which explain themselves."""

    @property
    def allowed(self) -> str:
        return "false, true or 'settings'"

    def parse(self, value: Any) -> str:
        if value is None:
            return str(self.default)
        try:
            return _COMPARE_WORDS[str(value).strip().lower()].value
        except KeyError:
            raise self._error(value) from None

    def schema(self) -> dict[str, Any]:
        description = "Makes each image again: true without ToDo, 'settings' also with weaker and stronger settings."
        return {"enum": [False, True, "settings"], "default": False, "title": self.label, "description": description}


COMPARE = _CompareKnob(
    name="compare",
    kind=str,
    default=Compare.OFF.value,
    label="Compare",
    help="",
    choices=tuple(each.value for each in Compare),
)
"""An option of the request, not of the image. It comes after the knobs and is not written to the infotext."""

NAMES = (ENABLED.name, *KNOBS, COMPARE.name)


@dataclass(frozen=True)
class Wanted:
    """The request of a generation with ToDo on."""

    settings: Settings
    compare: Compare


def requested(arguments: Sequence[Any], overrides: Mapping[str, Any]) -> Wanted | None:
    """The request of a generation; None if ToDo is off.

    Args:
        arguments: the values of the page's controls or the API's list, in the order of NAMES and possibly shorter. Or a
            list that begins with a dict of values by name, in which `enabled` defaults to true.
        overrides: values by name from the X/Y/Z plot. They take precedence over `arguments`.

    Raises:
        SettingsError: a name is unknown or a value is invalid.
    """
    values = _by_name(arguments)
    enabled = ENABLED.parse(values.pop(ENABLED.name, None))
    if overrides:
        # If ToDo were off or in the other mode, the axis would have no effect.
        enabled = ENABLED.parse(overrides.get(ENABLED.name, True))
        knobs = {name: value for name, value in overrides.items() if name != ENABLED.name}
        if any(KNOBS[name].mode for name in knobs) and "mode" not in knobs:
            knobs["mode"] = implied_mode(knobs)
        values.update(knobs)
    if not enabled:
        return None
    compare = Compare(COMPARE.parse(values.pop(COMPARE.name, None)))
    for name in values:
        if name not in KNOBS:
            raise unknown_name(name, NAMES)
    return Wanted(Settings.from_dict(values), compare)


def page_settings(values: Sequence[Any]) -> Settings:
    """The settings of the page's controls, whether ToDo is on or not.

    Raises:
        SettingsError: a value is invalid.
    """
    wanted = requested((True, *values[1:]), {})
    assert wanted  # enabled by the True above
    return wanted.settings


def message_for_page(error: SettingsError) -> str:
    """The error's message, with the labels of knobs in place of their names."""
    return with_labels(error, ENABLED, COMPARE, BATCH_SIZE, WIDTH, HEIGHT)


def message_for(arguments: Sequence[Any], error: SettingsError) -> str:
    """The error's message for whoever made a request: with names for a dict, else with labels."""
    return message_for_page(error) if _dict(arguments) is None else str(error)


def _dict(arguments: Sequence[Any]) -> Mapping[str, Any] | None:
    """The API's dict; None for the page's values or the API's list."""
    return arguments[0] if arguments and isinstance(arguments[0], Mapping) else None


def _by_name(arguments: Sequence[Any]) -> dict[str, Any]:
    given = _dict(arguments)
    if given is not None:
        enabled = given.get(ENABLED.name)
        return {**given, ENABLED.name: True if enabled is None else enabled}
    # A list sets every knob, so the mode cannot be inferred from the knobs that are set.
    default = {"mode": KNOBS["mode"].default}
    return default | {name: value for name, value in zip(NAMES, arguments, strict=False) if value is not None}
