"""The bench command's output: a table on the terminal, the same figures as JSON, and a picture of them."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import cycle, groupby
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure, SubFigure

from todo import Settings
from todo.bench.models import LAYOUT, best_device, build_unet
from todo.bench.speed import Counted, Environment, Result, Row, Spread, describe, measure
from todo.downsample import GATHERS, positions
from todo.plan import percent
from todo.settings import KNOBS

_COLUMNS = ("size", "settings", "keys/values", "dense, s", "ToDo, s", "speed-up", "time", "UNet work")

_CROP = 16
"""Tokens per side of the corner that the picture shows."""

_DENSE, _TODO, _FAINT, _INK = "#9aa5b1", ("#1f7a8c", "#e07a3f"), "#e9edf1", "#27313b"
_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
}


def run(
    sizes: Sequence[tuple[int, int]],
    settings: Sequence[Settings],
    rounds: int,
    output: Path,
    width: int = LAYOUT.channels,
) -> Result:
    """Measures, prints the table and writes bench.json and bench.png.

    Args:
        sizes: pictures' (width, height) in pixels, multiples of 64.
        output: the folder for the files; made if it is not there.
        width: channels of the UNet's first level; SD1.5's own unless told otherwise.
    """
    unet = build_unet(*best_device(), width)
    print(header(describe(unet)), flush=True)
    result = measure(unet, sizes, settings, rounds)
    print(f"\n{table(result)}\n\nafter removal: output bit-identical: {'yes' if result.identical else 'NO'}")
    print(*save(result, output), sep="\n")
    return result


def header(environment: Environment) -> str:
    """What is measured, on what."""
    return (
        f"One UNet call, dense against ToDo · SD1.5's architecture, random weights, "
        f"{environment.parameters / 1e6:.0f} M parameters\n"
        f"torch {environment.torch} · {environment.device} · {environment.threads} threads · {environment.dtype}"
    )


def table(result: Result) -> str:
    """The rows as text: medians with (lowest–highest) of the rounds."""
    cells = [_COLUMNS, *(_cells(row) for row in result.rows)]
    split = [[cell.split("\n") for cell in line] for line in cells]
    widths = [max(len(part) for line in split for part in line[column]) for column in range(len(_COLUMNS))]
    lines = []
    for line in split:
        for index in range(max(len(parts) for parts in line)):
            texts = (parts[index] if index < len(parts) else "" for parts in line)
            lines.append("  ".join(text.ljust(width) for text, width in zip(texts, widths, strict=True)).rstrip())
    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    legend = "Medians (lowest–highest) over the rounds; keys/values as the patch counted them; UNet work as predicted."
    return "\n".join([lines[0], rule, *lines[1:], rule, f"Rounds: {result.rounds}. {legend}"])


def to_json(result: Result) -> dict[str, Any]:
    """The result for JSON. Seconds are given by round and as their median, lowest and highest."""
    return {
        "environment": asdict(result.environment),
        "rounds": result.rounds,
        "identical_after_removal": result.identical,
        "rows": [_row_to_json(row) for row in result.rows],
    }


def save(result: Result, output: Path) -> tuple[Path, Path]:
    """Writes the picture and the figures into a folder, and returns their paths."""
    output.mkdir(parents=True, exist_ok=True)
    picture, figures = output / "bench.png", output / "bench.json"
    with mpl.rc_context(_STYLE):
        # A Figure of its own, without pyplot, is always drawn by Agg, whatever the environment says.
        draw(result).savefig(picture, dpi=160)
    figures.write_text(json.dumps(to_json(result), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return picture, figures


def draw(result: Result) -> Figure:
    """Left the times as bars; right the finest level's keys/values before and after."""
    figure = Figure(figsize=(13, 5.6), layout="constrained")
    environment = result.environment
    figure.suptitle("ToDo: one call of SD1.5's UNet", fontsize=15, fontweight="bold")
    halves = figure.add_gridspec(1, 2, width_ratios=(1, 1.2))
    _draw_times(figure.add_subfigure(halves[0]).add_subplot(), result)
    largest = max(result.rows, key=lambda row: row.plan.width * row.plan.height)
    alike = [row for row in result.rows if _size(row) == _size(largest)]
    _draw_grids(figure.add_subfigure(halves[1]), alike[: len(_TODO)])
    figure.supxlabel(
        f"torch {environment.torch} · {environment.device}, {environment.threads} threads · {environment.dtype} · "
        f"random weights · medians, with lines from lowest to highest, "
        f"of {result.rounds} round(s) · {environment.date}",
        fontsize=8,
        color=_INK,
    )
    return figure


def _cells(row: Row) -> tuple[str, ...]:
    return (
        _size(row),
        settings_label(row.settings),
        "\n".join(_kept(level) for level in row.counted if level.downsampled) or row.plan.note,
        _spread(Spread.of(row.dense_seconds)),
        _spread(Spread.of(row.todo_seconds)),
        _spread(row.speedup, "×"),
        percent(row.time_change),
        percent(row.plan.unet.change),
    )


def settings_label(settings: Settings) -> str:
    """The settings that differ from the defaults, in short."""
    values = settings.to_dict()
    differing = [f"{name.replace('_', ' ')} {values[name]}" for name in KNOBS if values[name] != KNOBS[name].default]
    return ", ".join(differing) or "default"


def _size(row: Row) -> str:
    return f"{row.plan.width}×{row.plan.height}"


def _kept(level: Counted) -> str:
    return f"{level.tokens} → {level.kept}"


def _spread(spread: Spread, unit: str = "") -> str:
    return f"{spread.median:.2f}{unit} ({spread.low:.2f}–{spread.high:.2f})"


def _row_to_json(row: Row) -> dict[str, Any]:
    return {
        "width": row.plan.width,
        "height": row.plan.height,
        "settings": row.settings.to_dict(),
        "counted": [asdict(level) for level in row.counted],
        "dense_seconds": _seconds_to_json(row.dense_seconds),
        "todo_seconds": _seconds_to_json(row.todo_seconds),
        "speedup": asdict(row.speedup),
        "time_change": row.time_change,
        "predicted_unet_work_change": row.plan.unet.change,
        "plan": row.plan.to_dict(),
    }


def _seconds_to_json(seconds: Sequence[float]) -> dict[str, Any]:
    return {**asdict(Spread.of(seconds)), "rounds": list(seconds)}


def _draw_times(axes: Axes, result: Result) -> None:
    """Horizontal bars of the median times, each size's dense one above its ToDo ones."""
    bars = [bar for _, rows in groupby(result.rows, key=_size) for bar in _bars(list(rows))]
    for position, (_, seconds, colour, note) in enumerate(bars):
        spread = Spread.of(seconds)
        around = [[spread.median - spread.low], [spread.high - spread.median]]
        axes.barh(position, spread.median, height=0.68, color=colour)
        axes.errorbar(spread.median, position, xerr=around, color=_INK, capsize=4, linewidth=1.2)
        axes.annotate(
            note, (spread.high, position), xytext=(9, 0), textcoords="offset points", va="center",
            fontsize=12, fontweight="bold", color=colour,
        )  # fmt: skip
    axes.set_yticks(range(len(bars)), [label for label, *_ in bars])
    axes.invert_yaxis()
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.2)
    axes.set_xlim(left=0)
    axes.set_xlabel("seconds, less is better")
    axes.set_title("Time of one call, and speed-up", fontsize=12, pad=12)


def _bars(rows: list[Row]) -> Iterator[tuple[str, tuple[float, ...], str, str]]:
    """Label, seconds by round, colour and note of one size's bars."""
    yield f"{_size(rows[0])}\ndense", rows[0].dense_seconds, _DENSE, ""
    for row, colour in zip(rows, cycle(_TODO), strict=False):
        yield f"ToDo\n{_label_on_lines(row)}", row.todo_seconds, colour, f"{row.speedup.median:.2f}×"


def _label_on_lines(row: Row) -> str:
    return settings_label(row.settings).replace(", ", ",\n")


def _draw_grids(part: SubFigure, rows: list[Row]) -> None:
    """A corner of the finest level's token grid: all of it, then what is left of it with each row's settings."""
    panels = [part.add_subplot(1, 1 + len(rows), 1 + index) for index in range(1 + len(rows))]
    height, width = rows[0].plan.levels[0].grid
    _draw_grid(panels[0], [[_DENSE] * width] * height, f"dense\nall {height * width}")
    for axes, row, colour in zip(panels[1:], rows, _TODO, strict=False):
        _draw_grid(axes, _token_colours(row, colour), f"ToDo, {_label_on_lines(row)}\n{_kept(row.counted[0])}")
    part.suptitle(f"Keys/values of the finest level at {_size(rows[0])}: a corner of the token grid", fontsize=12)


def _draw_grid(axes: Axes, colours: list[list[str]], caption: str) -> None:
    corner = [[to_rgb(colour) for colour in line[:_CROP]] for line in colours[:_CROP]]
    axes.imshow(corner)
    axes.set_xticks([column - 0.5 for column in range(len(corner[0]) + 1)], minor=True)
    axes.set_yticks([line - 0.5 for line in range(len(corner) + 1)], minor=True)
    axes.grid(which="minor", color="white", linewidth=1.4)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(caption, fontsize=10)


def _token_colours(row: Row, colour: str) -> list[list[str]]:
    """The colour of every token of the finest grid, by line: the kept ones stand out. Where a method blends, no
    token is kept as it is; then the cells that become one token show as a chequerboard."""
    level, method = row.plan.levels[0], row.settings.method
    down, across = (positions(side, level.factor, 0, method) for side in level.grid)
    lines, columns = (range(side) for side in level.grid)
    if method in GATHERS:
        return [[colour if line in down and column in across else _FAINT for column in columns] for line in lines]
    tints = (colour, _FAINT)
    return [
        [tints[(bisect_right(down, line) + bisect_right(across, column)) % 2] for column in columns] for line in lines
    ]
