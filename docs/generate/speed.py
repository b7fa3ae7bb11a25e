"""Tables of the published runs of speed and memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache

from benchmarks.method import DENSE
from benchmarks.output import markdown
from benchmarks.speed import capacity, overhead
from benchmarks.speed.methods import CLOSE, GRID_32, GRID_48, GRID_64, HYPERTILE, LIMIT
from benchmarks.speed.report import MODELS, rounds, where
from benchmarks.speed.results import ALL_LEVELS, FINEST, Result, Row, SizeResult, read
from benchmarks.speed.split import KINDS, MIDDLE, SELF_ATTENTION
from docs.generate import RESULTS
from todo import Settings, plan

_LEVELS = {"1": "finest", "2": "half of it", "4": "a quarter", MIDDLE: "middle"}


CPU = "sd1-cpu"
GPU = {"sd1": "sd1-cuda", "sdxl": "sdxl-cuda"}

_README_SIZES = ("768×768", "1024×1024", "1536×1536", "2048×2048", "3072×3072", "4096×4096")
_README_METHODS = (GRID_64, GRID_48, GRID_32, "ToDo paper", "tomesd 0.5", HYPERTILE, LIMIT)


@cache
def published(name: str = CPU) -> Result:
    """A published run."""
    return read(RESULTS / f"{name}.json")


def speedup(result: Result, size: SizeResult, grid: int) -> float | None:
    """The measured speed-up of `grid` per side at a size; 1 where it leaves the image alone, None where it was not
    measured. The rule of mode auto has changed since some runs. What a row did then, the setting with as much work in
    the plan does now."""
    now = plan(size.width, size.height, Settings(grid=grid), result.model)
    if now.note:
        return 1.0
    for row in size.rows:
        is_auto = row.settings is not None and row.settings == Settings(grid=row.settings.grid)
        if is_auto and math.isclose(row.predicted_work_change or 0.0, now.unet.change, rel_tol=1e-6):
            measured = size.speedup(row)
            return measured.median if measured else None
    return None


def speed_table(name: str) -> Callable[[], str]:
    """The function that makes the table of a run: speed-ups by method and size, with shares of the limit."""
    return lambda: _speed_table(published(name))


def native_tables() -> str:
    """The tables of the runs at the sizes that the models were trained at, on a CPU."""
    return "\n".join(_speed_table(published(f"{model}-cpu-native")) for model in GPU)


def gpu_table(model: str) -> Callable[[], str]:
    """The function that makes the README's table of a model on a GPU, with a selection of sizes and methods."""

    def make() -> str:
        result = published(GPU[model])
        sizes = tuple(size for size in result.sizes if size.label in _README_SIZES)
        methods = {name: result.methods[name] for name in (DENSE, *_README_METHODS)}
        return _speed_table(replace(result, sizes=sizes, methods=methods))

    return make


def _speed_table(result: Result) -> str:
    environment = result.environment
    head = ["", *(size.label for size in result.sizes)]
    what = f"{MODELS[result.model]} · {where(result)} · batch {result.batch} · {environment.date}"
    about = f"{what}; rounds: {rounds(result)}"
    dense = [DENSE, *(_dense_cell(size) for size in result.sizes)]
    rows = [_speed_row(result, name) for name in result.methods if name != DENSE]
    return f"{about}\n\n" + markdown(head, [dense, *rows])


def _dense_cell(size: SizeResult) -> str:
    row = size.row(DENSE)
    seconds = row.spread.median if row and row.spread else 0.0
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"


def _speed_row(result: Result, method: str) -> list[str]:
    return [method, *(_speed_cell(size, size.row(method)) for size in result.sizes)]


def _speed_cell(size: SizeResult, row: Row | None) -> str:
    if row is None:
        return ""
    speedup, share = size.speedup(row), size.limit_share(row)
    if row.note or speedup is None:
        return row.note
    spread = f" ({speedup.low:.2f}–{speedup.high:.2f})" if speedup.low < speedup.high else ""
    return f"×{speedup.median:.2f}{spread}" + (f" · {share.median:.0%}" if share else "")


def share_table() -> str:
    """Shares of the limit with their range, for the methods close to it."""
    result = published()
    rows = [[name, *(_share_cell(size, name) for size in result.sizes)] for name in CLOSE if name != LIMIT]
    return markdown(["", *(size.label for size in result.sizes)], rows)


def _share_cell(size: SizeResult, method: str) -> str:
    row = size.row(method)
    share = size.limit_share(row) if row else None
    return f"{share.median:.3f} ({share.low:.3f}–{share.high:.3f})" if share else ""


def growth_table() -> str:
    """The exponents with which self-attention's time grows with the number of tokens, by method."""
    result = published()
    laws = {level: result.growth(level) for level in (FINEST, ALL_LEVELS)}
    rows = [[name, *(str(laws[level][name]) for level in laws)] for name in result.methods if name in laws[FINEST]]
    return markdown(["", *laws], rows)


def split_table() -> str:
    """Seconds of a call at 1024² by type of block, with self-attention by level."""
    result = published()
    size = next(size for size in result.sizes if size.label == "1024×1024")
    rows = [(row.method, row.split) for row in size.rows if row.split]
    kinds = [kind for kind in KINDS if kind != SELF_ATTENTION]
    head = ["", *(f"self-attention, {level}" for level in _LEVELS.values()), *kinds]
    cells = [
        [name, *(f"{split.levels[level]:.2f}" for level in _LEVELS), *(f"{split.kinds[kind]:.2f}" for kind in kinds)]
        for name, split in rows
    ]
    return markdown(head, cells)


def memory_table(model: str) -> Callable[[], str]:
    """The function that makes a model's table of peak memory and of the largest image that fits."""
    return lambda: _capacity_table(capacity.read(RESULTS / f"{model}-memory.json"))


def _capacity_table(fits: capacity.Fits) -> str:
    head, groups = capacity.cells(fits)
    return markdown(head, [row for group in groups for row in group])


def overhead_table() -> str:
    """What the patch's own Python costs."""
    measured = overhead.read(RESULTS / "overhead.json")
    environment = measured.environment
    about = f"torch {environment.versions['torch']} · {environment.machine}, {environment.clock} · {environment.date}"
    return f"{about}\n\n{markdown(*overhead.cells(measured))}"
