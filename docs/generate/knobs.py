"""The table of settings, from `todo.settings.KNOBS`."""

from __future__ import annotations

from benchmarks.output import markdown
from todo.settings import KNOBS, Knob


def knob_table() -> str:
    """A row for each setting, in the order of `KNOBS`."""
    return markdown(["name", "on the page", "allowed", "default", ""], [_row(knob) for knob in KNOBS.values()])


def _row(knob: Knob) -> list[str]:
    default = str(knob.default).lower() if knob.kind is bool else f"{knob.default}"
    return [f"`{knob.name}`", knob.label, knob.allowed, default, knob.help]
