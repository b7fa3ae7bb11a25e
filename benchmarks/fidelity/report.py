"""A fidelity run as text: tables of how close each method's images stay to the dense ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isnan

from benchmarks import output
from benchmarks.fidelity.methods import PAPER, named
from benchmarks.fidelity.results import Result, Size
from benchmarks.fidelity.scores import Score
from benchmarks.method import DENSE, NO_EFFECT, OUT_OF_MEMORY

Table = tuple[Sequence[str], list[list[str]]]
"""The head and the rows of cells."""

PAPER_2 = named(PAPER, 2)
"""What errors are divided by."""

_HEAD = ("", "speed-up", "MSE / paper's f=2", "PSNR, dB", "SSIM")
_OPTIONAL: dict[str, Callable[[Score], float]] = {
    "LPIPS": lambda score: score.lpips,
    "HPF": lambda score: score.high_pass,
}


def text(result: Result) -> str:
    """All tables, for the terminal."""
    sizes = (
        f"\n{label(size)}: {effective_keys(result, size)}\n\n{as_text(table(result, size))}" for size in result.sizes
    )
    return "\n".join([about(result), *sizes])


def as_text(table: Table) -> str:
    """A table for the terminal."""
    head, rows = table
    return output.table(head, [rows])


def about(result: Result) -> str:
    """How many images were made, how, by what, and on what machine."""
    prompts = _counted(len(result.prompts), "prompt")
    counts = {size: len(result.of(DENSE, size)) for size in result.sizes}
    images = f"{prompts} × {_counted(result.seeds, 'seed')} at each size"
    if set(counts.values()) != {len(result.prompts) * result.seeds}:
        images = ", ".join(f"{_counted(count, 'image')} of {label(size)}" for size, count in counts.items())
    parts = (result.model, images, str(result.sampling), result.environment.where, result.environment.date)
    return " · ".join(filter(None, parts))


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def label(size: Size) -> str:
    """Width and height, as WebUIs write them."""
    height, width = size
    return f"{width}×{height}"


def effective_keys(result: Result, size: Size) -> str:
    """The effective share of the finest level's keys in dense attention, in words."""
    share = result.effective_keys(size)
    return f"effective keys: {'not measured' if isnan(share) else f'{share:.0%}'}"


def table(result: Result, size: Size) -> Table:
    """The scores of each method at one size: means with their intervals. Dense images have an HPF, too. What was
    measured in no image is left out."""
    known = {head: cell for head, cell in _OPTIONAL.items() if not all(isnan(cell(score)) for score in result.scores)}
    rows = [
        [*_row(result, name, size), *(f"{result.mean(cell, name, size):.3f}" for cell in known.values())]
        for name in result.methods
    ]
    return (*_HEAD, *known), rows


def _row(result: Result, name: str, size: Size) -> list[str]:
    if name == DENSE and result.fits(name, size):
        return [name, *[""] * (len(_HEAD) - 1)]
    if not result.changes(name, size):
        return [name, NO_EFFECT, *[""] * (len(_HEAD) - 2)]
    return [
        name,
        speedup(result, name, size),
        "" if name == PAPER_2 or PAPER_2 not in result.methods else f"{result.ratio(name, PAPER_2, size):.2f}",
        f"{result.mean(lambda score: score.psnr, name, size):.1f}",
        f"{result.mean(lambda score: score.ssim, name, size):.3f}",
    ]


def speedup(result: Result, name: str, size: Size) -> str:
    """A method's speed-up, or what did not fit in memory."""
    if not result.fits(name, size):
        return OUT_OF_MEMORY
    return f"×{result.speedup(name, size):.2f}" if result.fits(DENSE, size) else f"dense {OUT_OF_MEMORY}"
