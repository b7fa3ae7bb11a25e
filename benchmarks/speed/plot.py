"""The plot of a speed run: speed-up by size, where the time goes, and how self-attention's time grows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from benchmarks import style
from benchmarks.method import DENSE
from benchmarks.speed.growth import Growth
from benchmarks.speed.methods import GRID_16, GRID_32, GRID_64, LIMIT
from benchmarks.speed.report import MODELS, between, where
from benchmarks.speed.results import FINEST, Result, Row, SizeResult, Spread
from benchmarks.speed.split import FINEST_LEVEL, SELF_ATTENTION, Split

_COLOURS = {
    DENSE: style.GREY,
    GRID_64: style.TODO,
    GRID_32: "#2f9e44",
    GRID_16: "#74b816",
    "ToDo paper": style.PAPER,
    "reference": "#b08968",
    "tomesd 0.5": style.TOKEN_MERGING,
    "tomesd 0.75": "#ffa94d",
    "HyperTile": style.TILES,
    LIMIT: style.INK,
}
_OTHER_COLOURS = ("#e64980", "#c2255c", "#5f3dc4", "#087f5b")
"""For methods made from settings on the command line."""

_MARKERS = "osD^vP*Xph<>"
_PARTS = (
    ("self-attention, finest level", "#0b7285"),
    ("self-attention, other levels", "#66d9e8"),
    ("cross-attention", "#ffa94d"),
    ("feed-forward", "#ffe8cc"),
    ("convolution", "#ced4da"),
    ("other", "#eceff1"),
)
_TICKS = (1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Speed-ups with a grid line."""


def save(result: Result, path: Path) -> None:
    """Writes the plot of a result with at least one size."""
    style.save(lambda: draw(result), path, dpi=150)


def draw(result: Result) -> Figure:
    """The figure. With several sizes: speed-ups over the full width, the split and the growth below. With one size, at
    which growth is unknown: times as bars, and the split beside them."""
    sizes = sorted(result.sizes, key=lambda size: (size.width * size.height, size.width))
    several = len(sizes) > 1
    height = 9.2 if several else 2.8 + 0.45 * max(len(result.methods), 5)
    figure = Figure(figsize=(11, height), layout="constrained")
    if several:
        rows = figure.add_gridspec(3, 1, height_ratios=(1.2, 1, 0.08))
        _draw_speedups(figure.add_subplot(rows[0]), result, sizes)
        laws = result.growth(FINEST)
        below = rows[1].subgridspec(1, 2 if laws else 1)
        _draw_split(figure.add_subplot(below[0]), sizes)
        if laws:
            _draw_growth(figure.add_subplot(below[1]), laws)
    else:
        rows = figure.add_gridspec(2, 1, height_ratios=(1, 0.08))
        beside = rows[0].subgridspec(1, 2, width_ratios=(1.6, 1))
        _draw_times(figure.add_subplot(beside[0]), result)
        _draw_split(figure.add_subplot(beside[1]), sizes)
    _draw_legend(figure.add_subplot(rows[-1]))
    unit = f"{result.steps} sampling steps" if result.steps else "one UNet call"
    figure.suptitle(f"{MODELS[result.model]}, {unit}, batch {result.batch}", fontsize=15, fontweight="bold")
    counts = [count for size in sizes for count in size.rounds]
    rounds = between((min(counts), max(counts)))
    figure.supxlabel(
        f"{where(result)} · random weights · medians, with lines from lowest to highest, of {rounds} round(s) · "
        f"{result.environment.date}",
        fontsize=9,
    )
    return figure


def _draw_speedups(axes: Axes, result: Result, sizes: Sequence[SizeResult]) -> None:
    """A line for each method over the sizes."""
    names = [name for name in result.methods if name != DENSE]
    lines = {name: _line(sizes, name) for name in names}
    drawn = [name for name in names if lines[name]]
    axes.axhline(1, color=_COLOURS[DENSE], linewidth=1.2)
    axes.annotate(
        DENSE, (len(sizes) - 0.65, 1), xytext=(-2, 3), textcoords="offset points", ha="right", color=_COLOURS[DENSE]
    )
    for index, name in enumerate(sorted(drawn, key=lambda name: lines[name][-1][1].median, reverse=True)):
        # Shifted sideways, so that error bars at one size do not overlap.
        places = [place + 0.02 * (index - (len(drawn) - 1) / 2) for place, _ in lines[name]]
        _draw_line(axes, name, places, [spread for _, spread in lines[name]], names.index(name))
    axes.set_xticks(range(len(sizes)), [_short(size) for size in sizes])
    axes.set_xlim(-0.35, len(sizes) - 0.65)
    axes.set_yscale("log")
    lowest, highest = axes.get_ylim()
    # A single slow call of milliseconds would otherwise take half of the plot.
    axes.set_ylim(min(max(lowest, 0.6), 0.9), highest)
    axes.set_yticks([tick for tick in _TICKS if tick <= highest])
    axes.yaxis.set_major_formatter("{x:g}×")
    axes.minorticks_off()
    axes.grid(axis="y", color=style.FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_title("Speed-up over dense, by size in pixels")
    if drawn:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), ncols=1)


def _line(sizes: Sequence[SizeResult], name: str) -> list[tuple[int, Spread]]:
    """The place on the axis, and the speed-up, of each size that has one."""
    rows = [(place, size, size.row(name)) for place, size in enumerate(sizes)]
    speedups = [(place, size.speedup(row)) for place, size, row in rows if row]
    return [(place, spread) for place, spread in speedups if spread]


def _draw_line(axes: Axes, name: str, places: Sequence[float], spreads: Sequence[Spread], index: int) -> None:
    is_limit = name == LIMIT
    axes.errorbar(
        places, [spread.median for spread in spreads], yerr=_error_bars(spreads), label=_label(name),
        color=_colour(name, index), marker="" if is_limit else _MARKERS[index % len(_MARKERS)], markersize=5.5,
        linewidth=2.4 if name in (GRID_64, LIMIT) else 1.5, linestyle="--" if is_limit else "-", elinewidth=1.2,
        capsize=3,
    )  # fmt: skip


def _draw_times(axes: Axes, result: Result) -> None:
    """One size: a bar for the time of each method, dense first, with its speed-up. A line across marks the limit."""
    (size,) = result.sizes
    rows = [(row, row.spread) for row in size.rows]
    shown = [(row, spread) for row, spread in rows if spread]
    names = list(result.methods)
    for place, (row, spread) in enumerate(shown):
        colour = _colour(row.method, names.index(row.method))
        axes.barh(place, spread.median, height=0.66, color=colour)
        axes.errorbar(spread.median, place, xerr=_error_bars([spread]), color=style.INK, capsize=4, linewidth=1.2)
        axes.annotate(
            _speedup_text(size, row), (spread.high, place), xytext=(9, 0), textcoords="offset points", va="center",
            fontweight="bold", color=colour,
        )  # fmt: skip
        if row.method == LIMIT:
            axes.axvline(spread.median, color=style.INK, linestyle="--", linewidth=1.4)
    axes.set_yticks(range(len(shown)), [_label(row.method) for row, _ in shown])
    axes.invert_yaxis()
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.12)
    axes.set_xlim(left=0)
    axes.set_xlabel("seconds, less is better")
    axes.set_title(f"Time and speed-up at {size.label} pixels")


def _speedup_text(size: SizeResult, row: Row) -> str:
    speedup = size.speedup(row)
    return f"{speedup.median:.2f}×" if speedup else ""


def _draw_split(axes: Axes, sizes: Sequence[SizeResult]) -> None:
    """By size, the time of a call by type of block: dense as 100 %, and ToDo in percent of the dense time."""
    sides = {DENSE: -0.2, GRID_64: 0.2}
    for place, size in enumerate(sizes):
        dense = size.row(DENSE)
        for name, side in sides.items():
            row = size.row(name)
            if row and row.split and dense and dense.split:
                _draw_bar(axes, place + side, row.split, dense.split.total)
    if len(sizes) > 1:
        axes.set_xticks(
            range(len(sizes)), [_short(size) for size in sizes], rotation=40, ha="right", rotation_mode="anchor"
        )
    else:
        axes.set_xticks(list(sides.values()), list(sides))
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.6, len(sizes) - 0.4)
    axes.yaxis.set_major_formatter("{x:g} %")
    axes.set_title("Where the time goes" + (": left dense, right ToDo" if len(sizes) > 1 else ""))


def _draw_legend(axes: Axes) -> None:
    """The legend for the colours of the split."""
    axes.axis("off")
    handles = [Patch(color=colour, label=part) for part, colour in _PARTS]
    axes.legend(handles=handles, loc="center", ncols=3)


def _draw_bar(axes: Axes, place: float, split: Split, total: float) -> None:
    """A split as a stacked bar, in percent of `total` seconds."""
    finest = split.levels[FINEST_LEVEL]
    seconds = [finest, split.kinds[SELF_ATTENTION] - finest, *(split.kinds[part] for part, _ in _PARTS[2:])]
    bottom = 0.0
    for part, (_, colour) in zip(seconds, _PARTS, strict=True):
        share = 100 * part / total
        axes.bar(place, share, bottom=bottom, width=0.36, color=colour, edgecolor="white", linewidth=0.5)
        bottom += share


def _draw_growth(axes: Axes, laws: dict[str, Growth]) -> None:
    """Self-attention's time by tokens on logarithmic axes, with the fitted power laws."""
    tokens: set[int] = set()
    for name in (DENSE, GRID_64):
        law = laws.get(name)
        if not law:
            continue
        colour = _colour(name, 0)
        error = "" if law.error is None else f" ± {law.error:.2f}"
        ends = (min(law.tokens), max(law.tokens))
        axes.plot(ends, [law.at(end) for end in ends], color=colour, linewidth=1.6)
        axes.plot(
            law.tokens,
            law.seconds,
            "o",
            color=colour,
            markersize=6,
            label=f"{name}: tokens$^{{{law.exponent:.2f}}}${error}",
        )
        tokens.update(law.tokens)
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticks = _readable(sorted(tokens))
    axes.set_xticks(ticks, [f"{tick / 1000:.0f}k" for tick in ticks])
    axes.minorticks_off()
    axes.grid(color=style.FAINT, linewidth=0.6)
    axes.set_xlabel("tokens of the finest level")
    axes.set_title(f"{SELF_ATTENTION.capitalize()} of the finest level, s")
    if tokens:
        axes.legend(loc="upper left")


def _readable(values: Sequence[int]) -> list[int]:
    """Ascending values without those whose labels would overlap the one before on a logarithmic axis."""
    return [value for index, value in enumerate(values) if not index or value > 1.2 * values[index - 1]]


def _error_bars(spreads: Sequence[Spread]) -> list[list[float]]:
    """Lengths below and above the medians."""
    return [
        [spread.median - spread.low for spread in spreads],
        [spread.high - spread.median for spread in spreads],
    ]


def _colour(name: str, index: int) -> str:
    return _COLOURS.get(name, _OTHER_COLOURS[index % len(_OTHER_COLOURS)])


def _label(name: str) -> str:
    return "limit (one key/value token)" if name == LIMIT else name


def _short(size: SizeResult) -> str:
    return f"{size.width}²" if size.width == size.height else size.label
