"""Tables of the published fidelity run and of the study."""

from __future__ import annotations

from functools import cache

from benchmarks.fidelity import report, study
from benchmarks.fidelity.methods import FINEST_ONLY, PAPER, TILES, TODO, TOKEN_MERGING, UNTIL, named
from benchmarks.fidelity.results import Result, Size, read
from benchmarks.output import markdown
from docs.generate import RESULTS

_ON_THE_PAGE = {
    "the defaults: 64 per side": named(TODO, 2),
    "32 per side": named(TODO, 4),
    "32 per side, *Steps: to* 0.8": named(UNTIL, 4),
    "16 per side": named(TODO, 8),
    "*Max downsample* 1": named(FINEST_ONLY, 2),
    "32 per side, *Max downsample* 1": named(FINEST_ONLY, 4),
    "the paper: *manual*, ratio 2, *Phase* fixed": named(PAPER, 2),
    "token merging (tomesd), ratio 0.75": named(TOKEN_MERGING, 2),
    "HyperTile, 2 × 2 tiles": named(TILES, 2),
}
"""Settings for SD1.5 at 1024², and the methods that keep the same share of tokens at twice the trained size."""

_SETTINGS = [
    *(named(TODO, factor) for factor in (2, 4, 8)),
    *(named(FINEST_ONLY, factor) for factor in (2, 4)),
    named(UNTIL, 4),
]


@cache
def published() -> Result:
    """The published run."""
    (result,) = read(RESULTS / "fidelity.json")
    return result


@cache
def _studied() -> list[Result]:
    return read(RESULTS / "study.json")


def loss_table() -> str:
    """How close images stay with each setting, at twice the size that the model was trained at. It gives ratios to the
    paper's setting and to token merging, since decibels of one model say little about another."""
    result = published()
    size = result.sizes[-1]
    head = ["on the page", "speed-up", "squared error / the paper's", "/ token merging's"]
    rows = [[settings, *_loss_cells(result, method, size)] for settings, method in _ON_THE_PAGE.items()]
    return f"{report.about(result)}\n\n{markdown(head, rows)}"


def _loss_cells(result: Result, method: str, size: Size) -> tuple[str, ...]:
    return *_setting_cells(result, method, size), f"{result.ratio(method, named(TOKEN_MERGING, 2), size):.3f}"


def size_tables() -> str:
    """The scores of every method at every size."""
    result = published()
    tables = (
        f"### {report.label(size)}\n\n{report.counting_keys(result, size)}.\n\n{markdown(*report.table(result, size))}"
        for size in result.sizes
    )
    return f"{report.about(result)}\n\n" + "\n".join(tables)


def ratio_table() -> str:
    """Mean squared errors over the paper's at the same factor: for all sizes together, and by size."""
    result = published()
    cells = ([name, *(report.ratio(result, name, size) for size in (None, *result.sizes))] for name in result.methods)
    rows = [row for row in cells if any(row[1:])]
    return markdown(["", "all sizes", *map(report.label, result.sizes)], rows)


def setting_table() -> str:
    """Speed-ups, and squared errors over those of the paper's f=2, by setting and size."""
    result = published()
    rows = [
        [name, *(cell for size in result.sizes for cell in _setting_cells(result, name, size))] for name in _SETTINGS
    ]
    head = [cell for size in result.sizes for cell in (f"{report.label(size)}: speed-up", "MSE / paper's f=2")]
    return markdown(["", *head], rows)


def _setting_cells(result: Result, name: str, size: Size) -> tuple[str, str]:
    return f"×{result.speedup(name, size):.2f}", f"{result.ratio(name, named(PAPER, 2), size):.2f}"


def sampling_table() -> str:
    """The moving phase by number of sampling steps, sampler, guidance and sharpness."""
    return markdown(*study.sampling_table(_studied()))


def factor_table() -> str:
    """The moving phase by factor."""
    return markdown(*study.factor_table(_studied()))


def variant_table() -> str:
    """Other patterns of kept tokens, and other methods of downsampling."""
    return markdown(*study.variant_table(_studied()))


def error_table() -> str:
    """Relative errors of single calls."""
    return markdown(*report.error_table(published()))
