"""The plot of a speed run: the speed-up of each method by size."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from benchmarks import style
from benchmarks.method import DENSE
from benchmarks.speed.methods import DEFAULT, HYPERTILE, LIMIT, PAPER
from benchmarks.speed.report import about, rounds
from benchmarks.speed.results import Result

_CURVES = {
    LIMIT: (style.INK, "limit (one key/value)"),
    DEFAULT: (style.TODO, f"{DEFAULT} (default)"),
    HYPERTILE: (style.TILES, HYPERTILE),
    PAPER: (style.PAPER, PAPER),
    "tomesd 0.5": (style.TOKEN_MERGING, "tomesd, ratio 0.5"),
}
"""Colours and labels. Of a run with more methods than these and dense, these are drawn."""

_OTHERS = ("#2f9e44", "#e64980", "#5f3dc4", "#087f5b", "#b08968")
_MARKERS = "osD^v"
_TICKS = (0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.2, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32)


def save(result: Result, path: Path) -> None:
    """Writes the plot of a result with at least one size."""
    style.save(lambda: draw(result), path, dpi=150)


def draw(result: Result) -> Figure:
    """A line for each method over the sizes: medians, with thin lines from the lower to the upper quartile."""
    sizes = sorted(result.sizes, key=lambda size: (size.width * size.height, size.width))
    measured = [name for name in result.methods if name != DENSE]
    names = list(_CURVES) if len(measured) > len(_CURVES) else measured
    figure = Figure(figsize=(9, 5.4), layout="constrained")
    axes = figure.add_subplot()
    for index, name in enumerate(names):
        found = [(place, spread) for place, size in enumerate(sizes) if (spread := size.speedup(name))]
        if found:
            # Shifted sideways, so that marks and quartiles at one size do not overlap.
            places = [place + 0.1 * (index - (len(names) - 1) / 2) for place, _ in found]
            colour, label = _CURVES.get(name, (_OTHERS[index % len(_OTHERS)], name))
            axes.plot(
                places, [spread.median for _, spread in found], label=label, color=colour, linewidth=1.4,
                linestyle="--" if name == LIMIT else "-", marker=_MARKERS[index % len(_MARKERS)], markersize=6,
            )  # fmt: skip
            ends = [spread.low for _, spread in found], [spread.high for _, spread in found]
            axes.vlines(places, *ends, color=colour, linewidth=1)
    axes.axhline(1, color=style.GREY, linewidth=1.4, label=DENSE)
    axes.set_xticks(range(len(sizes)), [size.label for size in sizes])
    axes.set_xlim(-0.4, len(sizes) - 0.6)
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.set_yticks([tick for tick in _TICKS if low <= tick <= high])
    axes.yaxis.set_major_formatter("{x:g}×")
    axes.minorticks_off()
    axes.grid(axis="y", color=style.FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_title("Speed-up over dense by size in pixels: medians and quartiles")
    axes.legend(loc="upper left")
    figure.supxlabel(f"{about(result)}\nrandom weights · {rounds(result)}", fontsize=9)
    return figure
