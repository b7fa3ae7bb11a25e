"""The table of settings, from the table in the code."""

from __future__ import annotations

from benchmarks.output import markdown
from todo.settings import KNOBS, Knob


def knob_table() -> str:
    """A row for each knob, in the order of the page."""
    return markdown(["name", "on the page", "allowed", "default", ""], [_row(knob) for knob in KNOBS.values()])


def _row(knob: Knob) -> list[str]:
    default = str(knob.default).lower() if knob.kind is bool else f"{knob.default}"
    return [f"`{knob.name}`", knob.label, knob.allowed, default, knob.help]
