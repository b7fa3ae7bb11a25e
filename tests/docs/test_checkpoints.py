"""The table of checkpoints lists the results that users put into the folder, and no others."""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.environment import Environment
from benchmarks.fidelity.methods import PAPER, named
from benchmarks.fidelity.results import Result, write
from benchmarks.fidelity.scores import Score
from benchmarks.method import DENSE
from benchmarks.sampling import Sampling
from benchmarks.speed.methods import per_side
from docs.generate import RESULTS
from docs.generate.checkpoints import checkpoint_table

VERSIONS = {"python": "3.11.7", "torch": "2.13.0", "diffusers": "0.42.1"}
GPU = Environment("2026-11-26", "a GPU", "Linux", "cuda", 1, "wall time", "float16", VERSIONS)


def result(model: str) -> Result:
    errors = {DENSE: (0.0, 0.0), named(PAPER, 2): (0.2, 0.4), per_side(64): (0.05, 0.1)}
    scores = tuple(
        Score(method, "a cat", seed, (1024, 768), error, 22.0, 0.9, 1.0, (), 1.0)
        for method, both in errors.items()
        for seed, error in enumerate(both)
    )
    return Result(GPU, Sampling(25, "dpm++ 2m", 5.0), scores, {(1024, 768): 0.05}, model)


def test_without_a_checkpoint_the_table_says_so(tmp_path: Path) -> None:
    """The published results of the embedded model and of speed runs are no checkpoints."""
    for path in RESULTS.glob("*.json"):
        shutil.copy(path, tmp_path)
    write([result("")], tmp_path / "tiny.json")
    assert checkpoint_table(tmp_path) == "No checkpoint has been measured yet.\n"


def test_a_file_in_the_folder_is_a_row(tmp_path: Path) -> None:
    write([result("mine.safetensors")], tmp_path / "mine.json")
    _, _, row, *others = checkpoint_table(tmp_path).splitlines()
    assert others == []
    assert [cell.strip() for cell in row.strip("| ").split("|")] == [
        "mine.safetensors", "768×1024", "2, dpm++ 2m, 25 steps, guidance 5", "5%", "22.0 (22.0–22.0)",
        "0.25 (0.25–0.25)", "", "", "", "torch 2.13.0, diffusers 0.42.1 · a GPU, float16 · 2026-11-26",
    ]  # fmt: skip
