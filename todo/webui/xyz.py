"""Axes for the host's X/Y/Z plot: one for the switch and one for each knob."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from modules import scripts

from ..settings import KNOBS, Knob, SettingsError
from .generation import OVERRIDES
from .log import logger
from .request import ENABLED, message_for_page


def add_axes() -> None:
    """Adds our axes to the plot's list, whichever of the host's scripts holds it. Does nothing without a plot."""
    for data in scripts.scripts_data:
        options = getattr(data.module, "axis_options", None)
        axis_option = getattr(data.module, "AxisOption", None)
        if isinstance(options, list) and axis_option is not None:
            known = {option.label for option in options}
            axes = [_axis(axis_option, knob) for knob in (ENABLED, *KNOBS.values())]
            options.extend(axis for axis in axes if axis.label not in known)
            return
    logger.debug("this WebUI has no X/Y/Z plot")


def _axis(axis_option: Any, knob: Knob) -> Any:
    values = [str(choice) for choice in knob.choices] or (["True", "False"] if knob.kind is bool else None)
    return axis_option(
        # The plot parses numbers, including ranges such as 1-4. Other values are chosen from a list of strings.
        label=knob.label if knob is ENABLED else f"[ToDo] {knob.label}",
        type=str if values else _Number(knob),
        apply=_setter(knob),
        confirm=_checker(knob),
        choices=(lambda: values) if values else None,
    )


class _Number:
    """An axis's type for numbers. The plot compares it with int and float to read ranges, and calls it for each value.

    int and float themselves would refuse a value without saying what is allowed.
    """

    def __init__(self, knob: Knob):
        self.knob = knob

    def __eq__(self, other: object) -> bool:
        return other is self.knob.kind

    def __hash__(self) -> int:
        return hash(self.knob.kind)

    def __call__(self, value: Any) -> Any:
        return _parse(self.knob, value)


def _parse(knob: Knob, value: Any) -> Any:
    """The knob's value. The error is shown on the page, so it names the label."""
    try:
        return knob.parse(value)
    except SettingsError as error:
        raise SettingsError(error.field, message_for_page(error)) from None


def _setter(knob: Knob) -> Callable[[Any, Any, Any], None]:
    def apply(p: Any, value: Any, values: Any) -> None:
        # The plot makes a shallow copy of `p` for each image, so the dict must be replaced, not changed.
        setattr(p, OVERRIDES, {**getattr(p, OVERRIDES, {}), knob.name: value})

    return apply


def _checker(knob: Knob) -> Callable[[Any, Any], None]:
    def confirm(p: Any, values: Any) -> None:
        for value in values:
            _parse(knob, value)

    return confirm
