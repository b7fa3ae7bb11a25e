"""The result of a measurement, as a line of text and as HTML for the page. Independent of the host.

Colours are gradio's CSS variables, so that they follow the page's theme.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from ...prediction import Phrase, text
from ..passes import Pass
from .rounds import LEAST_ROUNDS, LONGEST, SpeedUp

FASTER, SLOWER = "{}× faster", "{}× slower"
RANGE, UNSTEADY = "{}–{}× as fast", "unsteady: is other work running on this machine?"
ROUGH = "rough: only {} of " + f"{LEAST_ROUNDS} rounds in {LONGEST:.0f} seconds"
EXPECTED, MEMORY, TOO_LARGE = "by arithmetic {}×", "memory {} → {} GB", "does not fit in memory"
DENSE, DENSE_TOO_LARGE = "dense {}", f"dense {TOO_LARGE}"
TODO, TODO_TOO_LARGE = "ToDo {} per step", f"ToDo {TOO_LARGE}"

_GB = 1024**3
"""Bytes. The host counts its gigabytes like this."""


@dataclass(frozen=True)
class Row:
    """The result for one of the settings, or for dense.

    Attributes:
        label: for the plot.
        seconds: time of a sampling step; None if it ran out of memory.
        speed_up: how many times faster than dense; None for dense, and if either ran out of memory.
        predicted: the speed-up that the plan predicts; None for dense, and if there is no plan for the model.
        peak: peak device memory in bytes; None if the device does not track it.
        chosen: whether these are the settings on the page.
    """

    label: Phrase
    seconds: float | None
    speed_up: SpeedUp | None
    predicted: float | None
    peak: int | None
    chosen: bool


@dataclass(frozen=True)
class Figures:
    """The results for one pass.

    Attributes:
        rows: dense first, then the settings that have an effect.
        why_idle: why those on the page have none, so that no row is theirs; empty if they have one.
    """

    measured: Pass
    rows: tuple[Row, ...]
    why_idle: Phrase


def line(figures: Figures) -> str:
    """The result in one line: times, speed-up, memory."""
    return f"{figures.measured}: {' · '.join(map(text, _parts(figures)))}"


def page(figures: Figures) -> str:
    """HTML with a line and a plot."""
    return of_pass(figures.measured, _parts(figures)) + _plot(figures)


def of_pass(measured: Pass, phrases: Iterable[Phrase]) -> str:
    """HTML of a line about a pass."""
    return _line(f"{', '.join(map(_phrase, measured.phrases()))}: {' · '.join(map(_phrase, phrases))}")


def message(*phrase: str) -> str:
    """HTML of a line that is one phrase."""
    return _line(_phrase(phrase))


def waiting(text: str) -> str:
    """HTML of a line of text, with room for a progress bar."""
    return f'<div class="todo-waiting">{escape(text)}</div>'


def speed(ratio: float, faster: str = FASTER, slower: str = SLOWER) -> Phrase:
    """How much faster than dense a step is, in words."""
    return (faster, f"{ratio:.2f}") if ratio >= 1 else (slower, f"{1 / ratio:.2f}")


def _line(content: str) -> str:
    return f'<div style="margin-top: 0.5em">{content}</div>'


def _phrase(phrase: Phrase) -> str:
    """HTML of a phrase, which the page's script translates."""
    return f'<span data-todo-phrase="{escape(json.dumps(phrase))}">{escape(text(phrase))}</span>'


def _parts(figures: Figures) -> Iterator[Phrase]:
    dense, chosen = figures.rows[0], next((row for row in figures.rows if row.chosen), None)
    yield _time(dense, figures.rows, DENSE, DENSE_TOO_LARGE)
    if chosen is None:
        yield figures.why_idle
        return
    yield _time(chosen, figures.rows, TODO, TODO_TOO_LARGE)
    if chosen.speed_up:
        yield _measured(chosen.speed_up)
        if chosen.speed_up.rounds < LEAST_ROUNDS:
            yield ROUGH, str(chosen.speed_up.rounds)
        elif not chosen.speed_up.is_steady:
            yield (UNSTEADY,)
        if chosen.predicted:
            yield EXPECTED, f"{chosen.predicted:.2f}"
    if dense.peak and chosen.peak:
        yield MEMORY, f"{dense.peak / _GB:.1f}", f"{chosen.peak / _GB:.1f}"


def _measured(speed_up: SpeedUp) -> Phrase:
    if speed_up.is_steady or speed_up.low == speed_up.high:
        return speed(speed_up.median)
    return RANGE, f"{speed_up.low:.2f}", f"{speed_up.high:.2f}"


def _time(row: Row, rows: Sequence[Row], label: str = "{}", too_large: str = TOO_LARGE) -> Phrase:
    """The time of a step, under a label, in the unit that suits all rows."""
    if row.seconds is None:
        return (too_large,)
    in_seconds = max(each.seconds or 0.0 for each in rows) >= 10
    return label, f"{row.seconds:.1f} s" if in_seconds else f"{1000 * row.seconds:.0f} ms"


def _plot(figures: Figures) -> str:
    """HTML with a bar for each row. Its length is proportional to the time of a step."""
    bars = "".join(_bar(row, figures.rows) for row in figures.rows)
    grid = "display: grid; grid-template-columns: max-content 1fr max-content; gap: 2px 0.8em; align-items: center"
    return f'<div style="{grid}; margin: 0.4em 0 0.8em">{bars}</div>'


def _bar(row: Row, rows: Sequence[Row]) -> str:
    share = (row.seconds or 0.0) / (max(each.seconds or 0.0 for each in rows) or 1.0)
    colour = "--color-accent" if row.chosen else "--neutral-400"
    bar = f"display: block; height: 0.8em; border-radius: 2px; width: {100 * share:.1f}%; background: var({colour})"
    weight = ' style="font-weight: 600"' if row.chosen else ""
    phrases = [_time(row, rows), *([_measured(row.speed_up)] if row.speed_up else [])]
    cells = _phrase(row.label), f'<span style="{bar}"></span>', " · ".join(map(_phrase, phrases))
    return "".join(f"<span{weight}>{cell}</span>" for cell in cells)
