"""A fidelity run as text: tables of how close each method's images stay to the dense ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import nan

from benchmarks import output
from benchmarks.fidelity.methods import METHODS, PAPER, counterpart
from benchmarks.fidelity.results import Result, Size
from benchmarks.fidelity.scores import PROBED, Score
from benchmarks.method import DENSE

Table = tuple[Sequence[str], list[list[str]]]
"""The head and the rows of cells."""

_HEAD = ("", "speed-up", "PSNR, dB", "SSIM", "fine detail", "MSE / paper's, same f")


def text(result: Result) -> str:
    """All tables, for the terminal."""
    return "\n".join(_sections(result))


def _sections(result: Result) -> Iterator[str]:
    yield about(result)
    for size in result.sizes:
        yield f"\n{label(size)}: {result.effective_keys[size]:.0%} of the finest level's keys count\n"
        yield as_text(table(result, size))
    if any(score.errors for score in result.scores):
        yield f"\nRelative error of single calls, all sizes, first seeds\n\n{as_text(error_table(result))}"


def as_text(table: Table) -> str:
    """A table for the terminal."""
    head, rows = table
    return output.table(head, [rows])


def about(result: Result) -> str:
    """How many images were made, how, and on what machine."""
    environment = result.environment
    return (
        f"{_counted(len(result.prompts), 'prompt')} × {_counted(result.seeds, 'seed')} at each size · {result.sampling}"
        f" · torch {environment.versions['torch']} · {environment.machine}, {environment.clock} of 1 thread"
        f" · {environment.date}"
    )


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def label(size: Size) -> str:
    """Width and height, as WebUIs write them."""
    height, width = size
    return f"{width}×{height}"


def table(result: Result, size: Size) -> Table:
    """The scores of each method at one size: means with 95 % confidence intervals."""
    return _HEAD, [_row(result, name, size) for name in result.methods if name != DENSE]


def _row(result: Result, name: str, size: Size) -> list[str]:
    return [
        name,
        f"×{result.speedup(name, size):.2f}",
        f"{result.mean(lambda score: score.psnr, name, size):.1f}",
        f"{result.mean(lambda score: score.ssim, name, size):.3f}",
        f"{result.mean(lambda score: score.detail, name, size):.3f}",
        ratio(result, name, size),
    ]


def ratio(result: Result, name: str, size: Size | None = None) -> str:
    """A method's mean squared error over the paper's at the same factor; '' if that was not measured, and for the
    paper's own method."""
    paper = counterpart(METHODS[name])
    if METHODS[name].curve == PAPER or paper not in result.methods:
        return ""
    return f"{result.ratio(name, paper, size):.2f}"


def error_table(result: Result) -> Table:
    """Relative errors of single calls along the dense trajectory, by sampling progress."""
    head = ["", *(f"after {progress:.0%} of the steps" for progress in PROBED)]
    rows = [
        [name, *(f"{result.mean(_error(index), name):.4f}" for index in range(len(PROBED)))]
        for name in result.methods
        if name != DENSE
    ]
    return head, rows


def _error(index: int) -> Callable[[Score], float]:
    return lambda score: score.errors[index] if score.errors else nan
