"""What a page or an API payload asks for: Settings, and whether to compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from todo.settings import KNOBS, Knob, Settings, implied_mode, unknown_name

ENABLED = Knob(
    name="enabled",
    kind=bool,
    default=False,
    label="ToDo · Token Downsampling",
    help="Makes pictures faster at high resolution: self-attention looks at fewer keys/values.",
)
"""The switch, which stands before the knobs on the page and in the API's list."""

COMPARE = Knob(
    name="compare",
    kind=bool,
    default=False,
    label="Compare with dense",
    help="Makes each picture a second time, without ToDo, and shows both, their difference and the time they took.",
)
"""A flag of the request, not of the picture: it stands after the knobs, and in no picture's parameters."""

NAMES = (ENABLED.name, *KNOBS, COMPARE.name)


@dataclass(frozen=True)
class Wanted:
    """What a generation with ToDo asks for."""

    settings: Settings
    compare: bool


def requested(arguments: Sequence[Any], overrides: Mapping[str, Any]) -> Wanted | None:
    """What a generation asks for; None if it does not ask for ToDo.

    Args:
        arguments: the page's values or the API's list, in the order of NAMES and possibly shorter; or a list that
            begins with a dict by name, where `enabled` is true if left out.
        overrides: values by name from the X/Y/Z plot, which come before the others.

    Raises:
        SettingsError: a name or a value is wrong.
    """
    values = _by_name(arguments)
    enabled = ENABLED.parse(values.pop(ENABLED.name, None))
    if overrides:
        # An axis of a knob would show nothing if ToDo were off, or in the other mode.
        enabled = ENABLED.parse(overrides.get(ENABLED.name, True))
        knobs = {name: value for name, value in overrides.items() if name != ENABLED.name}
        if any(KNOBS[name].mode for name in knobs) and "mode" not in knobs:
            knobs["mode"] = implied_mode(knobs)
        values.update(knobs)
    if not enabled:
        return None
    compare = COMPARE.parse(values.pop(COMPARE.name, None))
    for name in values:
        if name not in KNOBS:
            raise unknown_name(name, NAMES)
    return Wanted(Settings.from_dict(values), compare)


def _by_name(arguments: Sequence[Any]) -> dict[str, Any]:
    first = arguments[0] if arguments else None
    if isinstance(first, Mapping):
        enabled = first.get(ENABLED.name)
        return {**first, ENABLED.name: True if enabled is None else enabled}
    # A list names every knob, so the mode cannot be told from those named.
    default = {"mode": KNOBS["mode"].default}
    return default | {name: value for name, value in zip(NAMES, arguments, strict=False) if value is not None}
