"""The result of a measurement, as a line of text and as HTML for the page. Independent of the host.

Colours are gradio's CSS variables, so that they follow the page's theme.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from ..plan import Phrase, Plan, plan, text
from ..settings import Settings

BATCH, HIRES = "batch of {}", "hires pass"
FASTER, SLOWER = "{}× faster", "{}× slower"
EXPECTED, MEMORY, TOO_LARGE = "expected up to {}×", "memory {} → {} GB", "does not fit in memory"
DENSE, DENSE_TOO_LARGE = "dense {}", f"dense {TOO_LARGE}"
TODO, TODO_TOO_LARGE = "ToDo {} per step", f"ToDo {TOO_LARGE}"

_GB = 1024**3
"""Bytes. The host counts its gigabytes like this."""


@dataclass(frozen=True)
class Row:
    """The result for one of the settings.

    Attributes:
        label: for the plot.
        seconds: time of a sampling step; None if it ran out of memory.
        speed_up: time of a dense step divided by `seconds`; None if either is unknown.
        predicted: the speed-up that the plan predicts; None for dense, and if there is no plan for the model.
        peak: peak device memory in bytes; None if the device does not track it.
        chosen: whether these are the settings on the page.
        note: why ToDo had no effect; empty if it had one.
    """

    label: Phrase
    seconds: float | None
    speed_up: float | None
    predicted: float | None
    peak: int | None
    chosen: bool
    note: Phrase


@dataclass(frozen=True)
class Pass:
    """A pass: image size in pixels, images per batch, whether it is the hires pass of hires. fix, and its sampling
    steps; 0 if they are not known."""

    width: int
    height: int
    batch: int
    hires: bool
    steps: int = 0

    def plan(self, settings: Settings, family: str) -> Plan:
        """What settings would do in it.

        Raises:
            SettingsError: `plan` does not know the size.
        """
        return plan(self.width, self.height, settings, family, self.hires, self.steps)

    def phrases(self) -> list[Phrase]:
        batch: list[Phrase] = [(BATCH, str(self.batch))] if self.batch > 1 else []
        return [(f"{self.width}×{self.height}",), *batch, *([(HIRES,)] if self.hires else [])]

    def __str__(self) -> str:
        return ", ".join(map(text, self.phrases()))


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
    return f"{figures.measured}: {' · '.join(map(text, _parts(figures)))}"


def page(results: Sequence[Figures]) -> str:
    """HTML with a line and a plot for each pass."""
    return "".join(f"{of_pass(each.measured, _parts(each))}{_plot(each)}" for each in results)


def of_pass(measured: Pass, phrases: Iterable[Phrase]) -> str:
    """HTML of a line about a pass."""
    return _line(f"{', '.join(map(_phrase, measured.phrases()))}: {' · '.join(map(_phrase, phrases))}")


def message(*phrase: str) -> str:
    """HTML of a line that is one phrase."""
    return _line(_phrase(phrase))


def _line(content: str) -> str:
    return f'<div style="margin-top: 0.5em">{content}</div>'


def _phrase(phrase: Phrase) -> str:
    """HTML of a phrase, which the page's script translates."""
    return f'<span data-todo-phrase="{escape(json.dumps(phrase))}">{escape(text(phrase))}</span>'


def _parts(figures: Figures) -> Iterator[Phrase]:
    dense, chosen = figures.dense, figures.chosen
    yield _time(dense, DENSE, DENSE_TOO_LARGE)
    yield _time(chosen, TODO, TODO_TOO_LARGE)
    if chosen.note:
        yield chosen.note
    elif chosen.speed_up:
        yield speed(chosen.speed_up)
        if chosen.predicted:
            yield EXPECTED, f"{chosen.predicted:.2f}"
    if dense.peak and chosen.peak:
        yield MEMORY, f"{dense.peak / _GB:.1f}", f"{chosen.peak / _GB:.1f}"


def speed(ratio: float, faster: str = FASTER, slower: str = SLOWER) -> Phrase:
    """How much faster than dense a step is, in words."""
    return (faster, f"{ratio:.2f}") if ratio >= 1 else (slower, f"{1 / ratio:.2f}")


def waiting(text: str) -> str:
    """HTML of a line of text, with room for a progress bar."""
    return f'<div class="todo-waiting">{escape(text)}</div>'


def _time(row: Row, label: str = "{}", too_large: str = TOO_LARGE) -> Phrase:
    """The time of a step, under a label."""
    if row.seconds is None:
        return (too_large,)
    return label, f"{row.seconds:.1f} s" if row.seconds >= 10 else f"{1000 * row.seconds:.0f} ms"


def _plot(figures: Figures) -> str:
    """HTML with a bar for each row. Its length is proportional to the time of a step."""
    longest = max((row.seconds or 0.0 for row in figures.rows), default=0.0) or 1.0
    bars = "".join(_bar(row, (row.seconds or 0.0) / longest, row is figures.dense) for row in figures.rows)
    grid = "display: grid; grid-template-columns: max-content 1fr max-content; gap: 2px 0.8em; align-items: center"
    return f'<div style="{grid}; margin: 0.4em 0 0.8em">{bars}</div>'


def _bar(row: Row, share: float, is_dense: bool) -> str:
    colour = "--color-accent" if row.chosen else "--neutral-400"
    bar = f"display: block; height: 0.8em; border-radius: 2px; width: {100 * share:.1f}%; background: var({colour})"
    weight = ' style="font-weight: 600"' if row.chosen else ""
    phrases = [_time(row)]
    if row.speed_up and not is_dense and not row.note:
        phrases.append(speed(row.speed_up))
    cells = _phrase(row.label), f'<span style="{bar}"></span>', " · ".join(map(_phrase, phrases))
    return "".join(f"<span{weight}>{cell}</span>" for cell in cells)
