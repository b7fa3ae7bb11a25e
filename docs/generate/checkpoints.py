"""The table of checkpoints: every fidelity run on a pipeline whose file lies in benchmarks/results/."""

from __future__ import annotations

from collections.abc import Iterator
from math import isnan
from pathlib import Path

from benchmarks.fidelity.methods import PAPER, TOKEN_MERGING, named
from benchmarks.fidelity.report import label, machine
from benchmarks.fidelity.results import Result, Size, read
from benchmarks.method import DENSE
from benchmarks.output import markdown, read_json
from benchmarks.speed.methods import per_side
from docs.generate import RESULTS

_PAPER = named(PAPER, 2)
_COMPARED = {
    **{f"{grid} per side / paper's f=2": per_side(grid) for grid in (64, 48, 32)},
    "token merging, f=2 / paper's f=2": named(TOKEN_MERGING, 2),
}
_HEAD = ("checkpoint", "size", "images", "keys that count", "paper's f=2: PSNR, dB", *_COMPARED, "measured with")


def checkpoint_table(folder: Path = RESULTS) -> str:
    """A row for each checkpoint and size: how far the paper's f=2 is from dense, and the others' squared errors over
    its."""
    rows = [_row(result, size) for result in _measured(folder) for size in result.sizes]
    return markdown(_HEAD, rows) if rows else "No checkpoint has been measured yet.\n"


def _measured(folder: Path) -> Iterator[Result]:
    """The fidelity runs on checkpoints among all results: lists of runs that name a model."""
    for path in sorted(folder.glob("*.json")):
        values = read_json(path)
        if isinstance(values, list) and any(isinstance(run, dict) and run.get("model") for run in values):
            yield from (result for result in read(path) if result.model)


def _row(result: Result, size: Size) -> list[str]:
    share = result.effective_keys[size]
    images = f"{len(result.of(DENSE, size))}, {result.sampling}"
    measured = _PAPER in result.methods
    return [
        result.model,
        label(size),
        images,
        "" if isnan(share) else f"{share:.0%}",
        f"{result.mean(lambda score: score.psnr, _PAPER, size):.1f}" if measured else "",
        *(_ratio(result, method, size) if measured else "" for method in _COMPARED.values()),
        f"{machine(result.environment)} · {result.environment.date}",
    ]


def _ratio(result: Result, method: str, size: Size) -> str:
    return f"{result.ratio(method, _PAPER, size):.2f}" if method in result.methods else ""
