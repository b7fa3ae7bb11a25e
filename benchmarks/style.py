"""The style of all plots, and the colours that several plots share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

INK, FAINT, GREY = "#27313b", "#c9d1d9", "#7d8894"
TODO, PAPER, TOKEN_MERGING, TILES = "#0b7285", "#1864ab", "#e8590c", "#9c36b5"

_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 11,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlepad": 10,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 10,
}


def save(draw: Callable[[], Figure], path: Path, dpi: int) -> None:
    """Draws a figure in this style and writes it. Figures made without pyplot need no display."""
    partial = path.with_name(f"{path.name}.partial")
    with mpl.rc_context(_STYLE):
        draw().savefig(partial, dpi=dpi, format=path.suffix.removeprefix("."))
    partial.replace(path)
