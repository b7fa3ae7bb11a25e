"""How many keys/values per side to keep: errors of the embedded model beside speeds on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks.fidelity.methods import GRIDS
from benchmarks.fidelity.results import Result
from benchmarks.output import markdown
from benchmarks.sampling import PUBLISHED
from benchmarks.speed.methods import HYPERTILE
from benchmarks.speed.report import MODELS
from benchmarks.speed.results import Result as SpeedResult
from benchmarks.speed.results import SizeResult
from docs.generate.fidelity import largest_error
from docs.generate.speed import GPU, published, speedup

_AS_FAST = 0.99
"""A setting is as fast as HyperTile from this ratio of their speed-ups on: the measurement wavers by a percent."""


def target_table() -> str:
    """For each setting, its largest error in the published condition, with LCM and in the others, and where it is as
    fast as HyperTile."""
    conditions: dict[str, Callable[[Result], bool]] = {
        str(PUBLISHED): lambda result: result.sampling == PUBLISHED,
        "LCM": lambda result: result.sampling.sampler == "lcm",
        "all others": lambda result: result.sampling != PUBLISHED and result.sampling.sampler != "lcm",
    }
    rows = [
        [f"{grid} per side", *(largest_error(grid, chosen) for chosen in conditions.values()), *_slower(grid)]
        for grid in GRIDS
    ]
    head = ["", *(f"{name}: largest error / paper's f=2" for name in conditions)]
    return markdown([*head, *(f"{MODELS[model]}: slower than HyperTile at" for model in GPU)], rows)


def _slower(grid: int) -> Iterator[str]:
    """By model, the sizes at which a setting is slower than HyperTile, with the ratio of their speed-ups."""
    for name in GPU.values():
        result = published(name)
        ratios = {size.label: _over_hypertile(grid, result, size) for size in result.sizes}
        slower = [f"{size} ({ratio:.2f})" for size, ratio in ratios.items() if ratio is not None and ratio < _AS_FAST]
        yield ", ".join(slower) or "none"


def _over_hypertile(grid: int, result: SpeedResult, size: SizeResult) -> float | None:
    """A setting's speed-up over HyperTile's; None if one of them was not measured."""
    todo, row = speedup(result, size, grid), size.row(HYPERTILE)
    hypertile = size.speedup(row) if row else None
    return todo / hypertile.median if todo and hypertile else None
