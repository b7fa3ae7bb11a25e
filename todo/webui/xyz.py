"""Axes for the host's X/Y/Z plot: one for the switch and one for each knob."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from modules import scripts

from ..settings import KNOBS, Knob
from .generation import OVERRIDES
from .log import logger
from .request import ENABLED


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
    label = "Enabled" if knob is ENABLED else knob.label
    values = [str(choice) for choice in knob.choices] or (["True", "False"] if knob.kind is bool else None)
    return axis_option(
        # The plot parses numbers, including ranges such as 1-4. Other values are chosen from a list of strings.
        label=f"[ToDo] {label}",
        type=str if values else knob.kind,
        apply=_setter(knob),
        confirm=_checker(knob),
        choices=(lambda: values) if values else None,
    )


def _setter(knob: Knob) -> Callable[[Any, Any, Any], None]:
    def apply(p: Any, value: Any, values: Any) -> None:
        # The plot makes a shallow copy of `p` for each image, so the dict must be replaced, not changed.
        setattr(p, OVERRIDES, {**getattr(p, OVERRIDES, {}), knob.name: value})

    return apply


def _checker(knob: Knob) -> Callable[[Any, Any], None]:
    def confirm(p: Any, values: Any) -> None:
        for value in values:
            knob.parse(value)

    return confirm
