"""Tables of the published fidelity run and of the study."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from benchmarks.fidelity import report, study
from benchmarks.fidelity.methods import FINEST_ONLY, GRIDS, PAPER, TILES, TOKEN_MERGING, named, of_trained
from benchmarks.fidelity.results import Result, Size, read
from benchmarks.output import markdown
from docs.generate import RESULTS

_ON_THE_PAGE = {
    **{f"{grid} per side": of_trained(grid) for grid in GRIDS},
    "64 per side, *Max downsample* 1": named(FINEST_ONLY, 2),
    "the paper: *manual*, ratio 2, *Phase* fixed": named(PAPER, 2),
    "token merging (tomesd), ratio 0.75": named(TOKEN_MERGING, 2),
    "HyperTile, 2 × 2 tiles": named(TILES, 2),
}
"""Settings for SD1.5 at 1024², and the methods that keep the same share of tokens at twice the trained size."""


@cache
def published() -> Result:
    """The published run."""
    (result,) = read(RESULTS / "fidelity.json")
    return result


@cache
def studied() -> list[Result]:
    """The published run, and the runs of the study."""
    return [published(), *read(RESULTS / "study.json")]


def loss_table() -> str:
    """How close images stay with each setting, at twice the size that the model was trained at. It gives ratios to the
    paper's setting and to token merging, since decibels of one model say little about another."""
    result = published()
    size = result.sizes[-1]
    head = ["on the page", "speed-up", "squared error / the paper's", "/ token merging's", "LPIPS / the paper's"]
    rows = [[settings, *_loss_cells(result, method, size)] for settings, method in _ON_THE_PAGE.items()]
    return f"{report.about(result)}\n\n{markdown(head, rows)}"


def _loss_cells(result: Result, method: str, size: Size) -> tuple[str, ...]:
    paper, merging = named(PAPER, 2), named(TOKEN_MERGING, 2)
    return (
        f"×{result.speedup(method, size):.2f}",
        f"{result.ratio(method, paper, size):.2f}",
        f"{result.ratio(method, merging, size):.3f}",
        f"{result.ratio(method, paper, size, lambda score: score.lpips):.2f}",
    )


def size_tables() -> str:
    """The scores of every method at every size."""
    result = published()
    tables = (
        f"### {report.label(size)}\n\n{report.counting_keys(result, size)}.\n\n{markdown(*report.table(result, size))}"
        for size in result.sizes
    )
    return f"{report.about(result)}\n\n" + "\n".join(tables)


def error_table() -> str:
    """Relative errors of single calls."""
    return markdown(*report.error_table(published()))


def study_table(table: Callable[[list[Result]], report.Table]) -> Callable[[], str]:
    """The function that makes a table of the study."""
    return lambda: markdown(*table(studied()))


choice_table = study_table(study.choice_table)
format_table = study_table(study.format_table)
credential_table = study_table(study.credential_table)
shared_table = study_table(study.shared_table)
sampling_table = study_table(study.sampling_table)
variant_table = study_table(study.variant_table)
