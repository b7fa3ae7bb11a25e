"""The result of a measurement, as a line of text and as HTML for the page. Independent of the host.

Colours are gradio's CSS variables, so that they follow the page's theme.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_GB = 1024**3
"""Bytes. The host counts its gigabytes like this."""


@dataclass(frozen=True)
class Row:
    """The result for one of the settings.

    Attributes:
        label: text for the plot.
        seconds: time of a sampling step; None if it ran out of memory.
        speed_up: time of a dense step divided by `seconds`; None if either is unknown.
        predicted: the speed-up that the plan predicts; None for dense, and if there is no plan for the model.
        peak: peak device memory in bytes; None if the device does not track it.
        chosen: whether these are the settings on the page.
        note: why ToDo had no effect, to complete 'no effect …'; '' if it had one.
    """

    label: str
    seconds: float | None
    speed_up: float | None
    predicted: float | None
    peak: int | None
    chosen: bool
    note: str


@dataclass(frozen=True)
class Pass:
    """A pass: image size in pixels, images per batch, and whether it is the hires pass of hires. fix."""

    width: int
    height: int
    batch: int
    hires: bool

    def __str__(self) -> str:
        batch = f", batch of {self.batch}" if self.batch > 1 else ""
        hires = ", hires pass" if self.hires else ""
        return f"{self.width}×{self.height}{batch}{hires}"


@dataclass(frozen=True)
class Figures:
    """The results for one pass. The first row is dense."""

    measured: Pass
    rows: tuple[Row, ...]

    @property
    def dense(self) -> Row:
        return self.rows[0]

    @property
    def chosen(self) -> Row:
        return next(row for row in self.rows if row.chosen)


def line(figures: Figures) -> str:
    """The result in one line: times, speed-up, memory."""
    dense, chosen = figures.dense, figures.chosen
    parts = [f"dense {_time(dense)}", f"ToDo {_time(chosen)}" + (" per step" if chosen.seconds else "")]
    if chosen.note:
        parts.append(f"no effect {chosen.note}")
    elif chosen.speed_up:
        predicted = f" (predicted ×{chosen.predicted:.2f})" if chosen.predicted else ""
        parts.append(f"×{chosen.speed_up:.2f}{predicted}")
    if dense.peak and chosen.peak:
        parts.append(f"memory {dense.peak / _GB:.1f} → {chosen.peak / _GB:.1f} GB")
    return f"{figures.measured}: {' · '.join(parts)}"


def page(results: Sequence[Figures]) -> str:
    """HTML with a line and a plot for each pass."""
    return "".join(f"{message(line(each))}{_plot(each)}" for each in results)


def message(text: str) -> str:
    """HTML of a line of text."""
    return f'<div style="margin-top: 0.5em">{escape(text)}</div>'


def waiting(text: str) -> str:
    """HTML of a line of text, with room for a progress bar."""
    return f'<div class="todo-waiting">{escape(text)}</div>'


def _time(row: Row) -> str:
    if row.seconds is None:
        return "does not fit in memory"
    return f"{row.seconds:.1f} s" if row.seconds >= 10 else f"{1000 * row.seconds:.0f} ms"


def _plot(figures: Figures) -> str:
    """HTML with a bar for each row. Its length is proportional to the time of a step."""
    longest = max((row.seconds or 0.0 for row in figures.rows), default=0.0) or 1.0
    bars = "".join(_bar(row, (row.seconds or 0.0) / longest, _speed_up_text(figures, row)) for row in figures.rows)
    grid = "display: grid; grid-template-columns: max-content 1fr max-content; gap: 2px 0.8em; align-items: center"
    return f'<div style="{grid}; margin: 0.4em 0 0.8em">{bars}</div>'


def _bar(row: Row, share: float, speed_up: str) -> str:
    colour = "--color-accent" if row.chosen else "--neutral-400"
    bar = f"display: block; height: 0.8em; border-radius: 2px; width: {100 * share:.1f}%; background: var({colour})"
    weight = ' style="font-weight: 600"' if row.chosen else ""
    cells = escape(row.label), f'<span style="{bar}"></span>', escape(f"{_time(row)}{speed_up}")
    return "".join(f"<span{weight}>{cell}</span>" for cell in cells)


def _speed_up_text(figures: Figures, row: Row) -> str:
    return f" · ×{row.speed_up:.2f}" if row.speed_up and row is not figures.dense and not row.note else ""
