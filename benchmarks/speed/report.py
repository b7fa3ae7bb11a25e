"""A speed run as text: what was measured, and the figures as a table."""

from __future__ import annotations

from benchmarks import output
from benchmarks.method import DENSE, OUT_OF_MEMORY
from benchmarks.speed.results import Result, Row, SizeResult, Spread

MODELS = {"sd1": "SD1.5", "sd2": "SD2", "sdxl": "SDXL"}

_COLUMNS = ("size", "method", "keys/values", "seconds", "speed-up", "peak memory")
_LEGEND = (
    "Medians, with quartiles, over interleaved rounds. Speed-up: dense / method, by round. Keys/values: of a call, by "
    "level, as counted by the patch. Peak memory: of one call, above weights and inputs."
)


def about(result: Result) -> str:
    """What is measured, and on what machine, in one line."""
    unit = f"{result.steps} sampling steps" if result.steps else "one UNet call"
    environment = result.environment
    return f"{MODELS[result.model]} · {unit}, batch {result.batch} · {environment.where} · {environment.date}"


def rounds(result: Result) -> str:
    """The number of rounds, such as '5 rounds' or '3 to 10 rounds' if sizes differ."""
    counts = sorted({size.rounds for size in result.sizes})
    return f"{' to '.join(str(count) for count in dict.fromkeys((counts[0], counts[-1])))} rounds"


def table(result: Result) -> str:
    """The figures as text, with a group of rows for each size."""
    groups = [[_cells(size, row) for row in size.rows] for size in result.sizes]
    return f"{output.table(_COLUMNS, groups)}\n{rounds(result).capitalize()}. {_LEGEND}"


def _cells(size: SizeResult, row: Row) -> tuple[str, ...]:
    return (
        size.label,
        row.method,
        ", ".join(map(str, row.kept or ())),
        OUT_OF_MEMORY if row.out_of_memory else spread(row.spread, "s"),
        "" if row.method == DENSE else spread(size.speedup(row.method)),
        "" if row.peak_bytes is None else f"{row.peak_bytes / 2**20:.0f} MiB",
    )


def spread(figure: Spread | None, unit: str = "×") -> str:
    """Median and quartiles. Times below a second get four decimals, since a GPU's are milliseconds."""
    if figure is None:
        return ""
    digits = 2 if unit == "×" or figure.median >= 1 else 4
    median, low, high = (f"{each:.{digits}f}" for each in (figure.median, figure.low, figure.high))
    return f"{'×' * (unit == '×')}{median}" + (f" ({low}–{high})" if figure.low < figure.high else "")
