"""A speed run as text: what was measured, and the figures as a table."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import output
from benchmarks.speed.results import ALL_LEVELS, FINEST, Counted, Result, Row, SizeResult, Spread

MODELS = {"sd1": "SD1.5", "sd2": "SD2", "sdxl": "SDXL"}

_COLUMNS = ("size", "method", "keys/values", "seconds", "speed-up", "of the limit", "peak memory", "UNet work")
_LEGEND = (
    "Medians (lowest–highest) over interleaved rounds. Speed-up: dense / method; of the limit: limit / method; both by "
    "round. Peak memory: of one call, above weights and inputs. Keys/values as counted by the patch; UNet work as "
    "predicted."
)


def header(result: Result) -> str:
    """What is measured, and on what machine."""
    environment = result.environment
    unit = f"{result.steps} sampling steps" if result.steps else "One UNet call"
    return (
        f"{unit} · {MODELS[result.model]}'s architecture, random weights, {result.parameters / 1e6:.0f} M parameters, "
        f"batch {result.batch}\n{where(result)}\n{environment.system}"
    )


def where(result: Result) -> str:
    """The machine and the versions, in one line."""
    environment = result.environment
    count = "1 thread" if environment.threads == 1 else f"{environment.threads} threads"
    threads = f", {count}" if environment.device == "cpu" else ""
    machine = environment.machine or environment.device
    return f"torch {environment.versions['torch']} · {machine}{threads} · {environment.dtype} · {environment.clock}"


def rounds(result: Result) -> str:
    """The number of rounds of each size. Methods close to the limit may have more than the others."""
    return ", ".join(f"{between(size.rounds)} at {size.label}" for size in result.sizes)


def between(counts: tuple[int, int]) -> str:
    """A range, such as '2–4', or a single number if both are equal."""
    return "–".join(str(count) for count in dict.fromkeys(counts))


def table(result: Result) -> str:
    """The figures as text, with a group of rows for each size."""
    groups = [[_cells(size, row) for row in size.rows] for size in result.sizes]
    return "\n".join([output.table(_COLUMNS, groups), *map(output.wrapped, _notes(result))])


def _notes(result: Result) -> Iterator[str]:
    yield f"Rounds: {rounds(result)}."
    yield _LEGEND
    for level in (FINEST, ALL_LEVELS):
        laws = [f"{method} {law}" for method, law in result.growth(level).items()]
        if laws:
            yield f"Exponent of self-attention's time in the number of tokens, {level}: {', '.join(laws)}"
    yield f"After removal: output bit-identical: {({None: 'not compared', True: 'yes', False: 'NO'})[result.identical]}"


def _cells(size: SizeResult, row: Row) -> tuple[str, ...]:
    change = row.predicted_work_change
    return (
        size.label,
        row.method,
        "\n".join([*(_kept(level) for level in row.counted if level.downsampled), *([row.note] if row.note else [])]),
        _spread(row.spread),
        _spread(size.speedup(row), "×"),
        _share(size.limit_share(row)),
        "" if row.peak_bytes is None else f"{row.peak_bytes / 2**20:.0f} MiB",
        "" if change is None else _percent(change),
    )


def _kept(level: Counted) -> str:
    """Keys per grid, before and after."""
    return f"{level.tokens} → {level.kept}"


def _spread(spread: Spread | None, unit: str = "") -> str:
    """Median and range. Times below a second get four decimals, since a GPU's are milliseconds."""
    if spread is None:
        return ""
    digits = 2 if unit or spread.median >= 1 else 4
    return f"{spread.median:.{digits}f}{unit} ({spread.low:.{digits}f}–{spread.high:.{digits}f})"


def _percent(change: float) -> str:
    """A relative change: '−28 %' for -0.28."""
    return f"{round(100 * change):+d} %".replace("-", "−").replace("+0", "±0")


def _share(share: Spread | None) -> str:
    return "" if share is None else f"{share.median:.0%} ({share.low:.0%}–{share.high:.0%})"
