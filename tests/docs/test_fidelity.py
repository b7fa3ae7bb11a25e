"""The page on fidelity: what users measured is listed, and frozen tables are what their figures give."""

from __future__ import annotations

import shutil
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from benchmarks.environment import Environment
from benchmarks.fidelity.methods import METHODS, PAPER, Layout, named, picks
from benchmarks.fidelity.results import Result, write
from benchmarks.fidelity.scores import Score
from benchmarks.method import DENSE
from benchmarks.output import read_json
from benchmarks.sampling import Sampling
from benchmarks.speed.methods import per_side
from docs.generate import RESULTS
from docs.generate.fidelity import checkpoint_table
from docs.generate.parts import FIDELITY

VERSIONS = {"todo": "0.2.0 abc1234", "python": "3.11.7", "torch": "2.13.0", "diffusers": "0.42.1"}
GPU = Environment("2026-11-26", "a GPU", "Linux", "cuda", 1, "wall time", "float16", VERSIONS)
SIZE = (1024, 768)


def result(model: str) -> Result:
    errors = {DENSE: (0.0, 0.0), named(PAPER, 2): (0.2, 0.4), per_side(64): (0.05, 0.1)}
    layout, sampling = Layout((128, 96), (0, 1, 2)), Sampling(25, "dpm++ 2m", 5.0)
    scores = tuple(
        Score(
            method, "a cat", seed, SIZE, picks=picks(METHODS[method], layout, sampling.steps), mse=error, psnr=22.0,
            seconds=1.0, effective_keys=0.05,
        )
        for method, both in errors.items()
        for seed, error in enumerate(both)
    )  # fmt: skip
    return Result(GPU, model, sampling, {SIZE: layout}, scores)


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
        "mine.safetensors", "768×1024", "2, dpm++ 2m, 25 steps, CFG 5", "5%", "22.0 (22.0–22.0)",
        "0.25 (0.25–0.25)", "", "", "",
        "ToDo 0.2.0 abc1234 · torch 2.13.0 · a GPU · float16 · wall time · 2026-11-26",
    ]  # fmt: skip


FINEST, ALIGNED = "ToDo, finest level", "ToDo, finest level, phases aligned"
COLUMNS = {
    "aligned, f=2 / paper's f=2": (f"{ALIGNED}, f=2", named(PAPER, 2)),
    "finest level, f=2 / paper's f=2": (f"{FINEST}, f=2", named(PAPER, 2)),
    "aligned, f=4 / paper's f=4": (f"{ALIGNED}, f=4", named(PAPER, 4)),
    "finest level, f=4 / paper's f=4": (f"{FINEST}, f=4", named(PAPER, 4)),
    "f=2 / paper's f=2": ("ToDo, f=2", named(PAPER, 2)),
    "f=4 / paper's f=2": ("ToDo, f=4", named(PAPER, 2)),
    "final latent: MSE / paper's f=2": ("", named(PAPER, 2)),
}


def frozen() -> list[tuple[str, str, str]]:
    """The cells of the tables of other patterns: row, column, figure."""
    cells = []
    for table in FIDELITY.read_text(encoding="utf8").split("\n\n"):
        lines = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("|")]
        if lines and (set(lines[0]) & set(COLUMNS) or lines[0][-2:] == ["euler, 4 steps", "euler, 20 steps"]):
            head = [cell.strip() for cell in table.splitlines()[0].strip("|").split("|")]
            for line in table.splitlines()[2:]:
                row, *figures = (cell.strip() for cell in line.strip("|").split("|"))
                cells += [(row, column, figure) for column, figure in zip(head[1:], figures, strict=True)]
    return cells


@pytest.fixture(scope="module")
def runs() -> list[dict[str, Any]]:
    return read_json(RESULTS / "pattern.json")


@pytest.mark.parametrize(("row", "column", "figure"), frozen())
def test_a_figure_of_another_pattern_is_what_was_measured(runs, row: str, column: str, figure: str) -> None:
    by_sampling = {str(Sampling(**run["sampling"])): run for run in runs}
    if row in by_sampling:
        run, (method, other) = by_sampling[row], COLUMNS.get(column, ("", ""))
    elif column in by_sampling:
        run, method, other = by_sampling[column], row, f"{FINEST}, f={row[-1]}"
    else:
        run, method, other = by_sampling["dpm++ 2m, 25 steps, CFG 5"], row, COLUMNS.get(column, ("", ""))[1]
    if column == "effective keys":
        expected = f"{run['effective keys']:.0%}"
    elif not other:
        expected = f"{fmean(run['methods'][method][column]):.{4 if column == 'error of a call' else 2}f}"
    else:
        expected = f"{fmean(run['methods'][method]['mse']) / fmean(run['methods'][other]['mse']):.2f}"
    assert figure.split(" (")[0] == expected
