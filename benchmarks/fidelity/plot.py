"""The plot of a fidelity run: fidelity against speed, with a panel for each size and a curve for each method."""

from __future__ import annotations

from itertools import cycle, groupby
from math import isnan
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import style
from benchmarks.fidelity.methods import FINEST_ONLY, METHODS, PAPER, TILES, TODO, TOKEN_MERGING
from benchmarks.fidelity.report import about, effective_keys, label
from benchmarks.fidelity.results import Result, Size

_COLOURS = {
    TODO: style.TODO,
    FINEST_ONLY: "#22b8cf",
    PAPER: style.PAPER,
    TOKEN_MERGING: style.TOKEN_MERGING,
    TILES: style.TILES,
}
_OTHER_COLOURS = ("#2f9e44", "#b08968", "#e64980", "#5f3dc4", "#7d8894", "#ffa94d")


def save(result: Result, path: Path) -> None:
    style.save(lambda: draw(result), path, dpi=130)


def draw(result: Result) -> Figure:
    figure = Figure(figsize=(5.2 * len(result.sizes) + 0.6, 6.4), layout="constrained")
    axes = figure.subplots(1, len(result.sizes), sharey=True, squeeze=False)[0]
    for panel, size in zip(axes, result.sizes, strict=True):
        _draw_panel(panel, result, size)
    axes[0].set_ylabel("PSNR against the dense image, dB (mean, and where other sets of eight fall)")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4)
    figure.suptitle(f"Fidelity to the dense image (higher is nearer)\n{about(result)}", fontsize=11)
    return figure


def _draw_panel(axes: Axes, result: Result, size: Size) -> None:
    names = [name for name in result.methods if result.changes(name, size) and not isnan(result.speedup(name, size))]
    other_colours = cycle(_OTHER_COLOURS)
    for curve, group in groupby(names, lambda name: METHODS[name].curve):
        _draw_curve(axes, result, size, curve, list(group), _COLOURS.get(curve) or next(other_colours))
    axes.set_title(f"{label(size)}, {effective_keys(result, size)}")
    axes.set_xlabel("speed-up of the whole loop")
    axes.grid(color="#e9ecef")
    axes.set_axisbelow(True)


def _draw_curve(axes: Axes, result: Result, size: Size, curve: str, names: list[str], colour: str) -> None:
    means = [result.mean(lambda score: score.psnr, name, size) for name in names]
    speedups = [result.speedup(name, size) for name in names]
    intervals: Any = [
        [mean.value - mean.low for mean in means],
        [mean.high - mean.value for mean in means],
    ]
    values = [mean.value for mean in means]
    axes.errorbar(speedups, values, intervals, color=colour, capsize=2, linewidth=1.4, label=curve)
    for name, speedup, value in zip(names, speedups, values, strict=True):
        axes.plot(speedup, value, "o", color=colour, markersize=5)
        axes.annotate(
            METHODS[name].mark, (speedup, value), (5, 4), textcoords="offset points", fontsize=8, color=colour
        )
