"""How many keys/values per side to keep: errors of the embedded model beside speeds on a GPU."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.fidelity.methods import GRIDS
from benchmarks.fidelity.results import Result
from benchmarks.output import markdown
from benchmarks.sampling import PUBLISHED
from benchmarks.speed.report import MODELS
from docs.generate.fidelity import largest_error
from docs.generate.speed import GPU, slower_than_hypertile


def target_table() -> str:
    """For each setting, its largest error in the published condition, with LCM and in the others, and where it is as
    fast as HyperTile."""
    conditions: dict[str, Callable[[Result], bool]] = {
        str(PUBLISHED): lambda result: result.sampling == PUBLISHED,
        "LCM": lambda result: result.sampling.sampler == "lcm",
        "all others": lambda result: result.sampling != PUBLISHED and result.sampling.sampler != "lcm",
    }
    rows = [
        [
            f"{grid} per side",
            *(largest_error(grid, chosen) for chosen in conditions.values()),
            *(slower_than_hypertile(grid, model) or "none" for model in GPU),
        ]
        for grid in GRIDS
    ]
    head = ["", *(f"{name}: largest error / paper's f=2" for name in conditions)]
    return markdown([*head, *(f"{MODELS[model]}: slower than HyperTile at" for model in GPU)], rows)
