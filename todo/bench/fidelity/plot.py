"""The fidelity run's picture: likeness to the dense picture against speed, every method a curve, a panel for each
size."""

from __future__ import annotations

from itertools import cycle, groupby
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from todo.bench.fidelity.methods import DENSE, FINEST_ONLY, METHODS, OWN, PAPER
from todo.bench.fidelity.report import about, label
from todo.bench.fidelity.results import Result, Size
from todo.bench.plot import STYLE

_COLOURS = {
    OWN: "#0b7285",
    FINEST_ONLY: "#22b8cf",
    PAPER: "#1864ab",
    "ToMe (tomesd)": "#e8590c",
    "tiles (HyperTile)": "#9c36b5",
}
_FURTHER = ("#2f9e44", "#b08968", "#e64980", "#5f3dc4", "#7d8894", "#ffa94d")
_MARKERS: dict[float, str] = {2: "o", 4: "s", 8: "D", 0: "x"}
_OTHER = "^"


def save(result: Result, path: Path) -> None:
    with mpl.rc_context(STYLE):
        draw(result).savefig(path, dpi=130)


def draw(result: Result) -> Figure:
    figure = Figure(figsize=(5.2 * len(result.sizes) + 0.6, 6.4), layout="constrained")
    axes = figure.subplots(1, len(result.sizes), sharey=True, squeeze=False)[0]
    for place, size in zip(axes, result.sizes, strict=True):
        _panel(place, result, size)
    axes[0].set_ylabel("PSNR against the dense picture, dB (mean, 95 % interval)")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4)
    figure.suptitle(f"Likeness to the dense picture (higher is nearer)\n{about(result)}", fontsize=11)
    return figure


def _panel(axes: Axes, result: Result, size: Size) -> None:
    names = [name for name in result.methods if name != DENSE]
    further = cycle(_FURTHER)
    for kind, group in groupby(names, lambda name: METHODS[name].kind):
        _curve(axes, result, size, kind, list(group), _COLOURS.get(kind) or next(further))
    axes.set_title(f"{label(size)}, {result.peaked[size]:.0%} of the keys count")
    axes.set_xlabel("speed-up of the whole loop")
    axes.grid(color="#e9ecef")
    axes.set_axisbelow(True)


def _curve(axes: Axes, result: Result, size: Size, kind: str, names: list[str], colour: str) -> None:
    means = [result.mean(lambda sample: sample.psnr, name, size) for name in names]
    speed = [result.speedup(name, size) for name in names]
    spread: Any = [
        [mean.value - mean.low for mean in means],
        [mean.high - mean.value for mean in means],
    ]
    axes.errorbar(speed, [mean.value for mean in means], spread, color=colour, capsize=2, linewidth=1.4, label=kind)
    for name, x, mean in zip(names, speed, means, strict=True):
        factor = METHODS[name].factor
        axes.plot(x, mean.value, _MARKERS.get(factor, _OTHER), color=colour, markersize=6)
        if factor:
            axes.annotate(
                f"f={factor:g}", (x, mean.value), (5, 4), textcoords="offset points", fontsize=8, color=colour
            )
