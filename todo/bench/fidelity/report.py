"""A fidelity run in words: tables of what each method keeps of the dense picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import nan

from todo.bench.fidelity.measure import PROBED, Sample
from todo.bench.fidelity.methods import DENSE, METHODS, PAPER, counterpart
from todo.bench.fidelity.results import Result, Size
from todo.bench.report import markdown

_HEAD = ("", "speed-up", "PSNR, dB", "SSIM", "fine detail", "MSE / paper's, same f")


def text(result: Result) -> str:
    """All tables, for the terminal."""
    return "\n".join(_parts(result))


def _parts(result: Result) -> Iterator[str]:
    yield about(result)
    for size in result.sizes:
        yield f"\n{label(size)}: {result.peaked[size]:.0%} of the finest level's keys count\n\n{table(result, size)}"
    if any(sample.errors for sample in result.samples):
        yield f"\nRelative error of single calls, all sizes, first seeds\n\n{error_table(result)}"


def about(result: Result) -> str:
    """What was drawn, on what."""
    environment = result.environment
    return (
        f"{len(result.prompts)} prompts × {result.seeds} seeds at each size · {result.sampling}"
        f" · torch {environment.versions['torch']} · {environment.machine}, {environment.clock} of 1 thread"
        f" · {environment.date}"
    )


def label(size: Size) -> str:
    height, width = size
    return f"{width}×{height}"


def table(result: Result, size: Size) -> str:
    """What each method does to the pictures of one size, means with their 95 % intervals, in Markdown."""
    return markdown(_HEAD, (_row(result, name, size) for name in result.methods if name != DENSE))


def _row(result: Result, name: str, size: Size) -> list[str]:
    return [
        name,
        f"×{result.speedup(name, size):.2f}",
        f"{result.mean(lambda sample: sample.psnr, name, size):.1f}",
        f"{result.mean(lambda sample: sample.ssim, name, size):.3f}",
        f"{result.mean(lambda sample: sample.detail, name, size):.3f}",
        ratio(result, name, size),
    ]


def ratio(result: Result, name: str, size: Size | None = None) -> str:
    """A method's mean squared error over the paper's at the same factor; '' where there is none, or it is the paper's
    own."""
    other = counterpart(METHODS[name])
    if METHODS[name].kind == PAPER or other not in result.methods:
        return ""
    return f"{result.ratio(name, other, size):.2f}"


def error_table(result: Result) -> str:
    """Relative error of single calls along the dense trajectory, by how far sampling is, in Markdown."""
    head = ["", *(f"after {share:.0%} of the steps" for share in PROBED)]
    rows = []
    for name in result.methods:
        if name != DENSE:
            rows.append([name, *(f"{result.mean(_error(at), name):.4f}" for at in range(len(PROBED)))])
    return markdown(head, rows)


def _error(at: int) -> Callable[[Sample], float]:
    return lambda sample: sample.errors[at] if sample.errors else nan
