"""The study: its parts, and its tables."""

from __future__ import annotations

import math

import pytest

from benchmarks.commands import main
from benchmarks.fidelity import results, study
from benchmarks.fidelity.methods import METHODS, PAPER, named, of_trained
from benchmarks.method import DENSE
from benchmarks.sampling import PUBLISHED, Sampling
from benchmarks.tiny.model import SIZES


def test_every_condition_but_the_published_one_has_all_grids_at_all_sizes():
    """The published one is measured by the command `fidelity`. Sharper attention is left out at the largest size."""
    assert all(set(task.methods) <= set(METHODS) and task.methods[0] == DENSE for task in study.tasks())
    conditions = {task.sampling: tuple(task.sizes) for task in study.tasks() if of_trained(32) in task.methods}
    assert PUBLISHED not in conditions
    assert {sampling: SIZES[:2] if sampling.sharpness > 1 else SIZES for sampling in conditions} == conditions


def test_the_default_is_measured_in_formats_and_in_few_steps():
    tasks = [task for task in study.tasks() if of_trained(48) in task.methods and named(PAPER, 2) in task.methods]
    steps = {(task.sampling.sampler, task.sampling.steps) for task in tasks if set(SIZES) <= set(task.sizes)}
    assert steps >= {(name, steps) for name in ("lcm", "euler", "dpm++ 2m sde") for steps in (4, 6, 8, 12)}
    for sampling in (PUBLISHED, Sampling(4), Sampling(4, "lcm")):
        sizes = [size for task in tasks if task.sampling == sampling for size in task.sizes]
        assert {round(max(size) / min(size)) for size in sizes} >= {2, 4}
    for name, sizes in study.FORMATS.items():
        width, height = map(int, name.split(":"))
        for (h, w), square in zip(sizes, SIZES, strict=True):
            assert w / h == pytest.approx(width / height, rel=0.07)
            assert math.sqrt(w * h) == pytest.approx(square[0], rel=0.07)


@pytest.fixture
def small(monkeypatch):
    """The study with one prompt, few steps and small sizes. At the smallest no grid acts, at the largest all do."""
    for name, sampling in {
        "_USUAL": Sampling(2),
        "_FEW_STEPS": Sampling(1),
        "_SHARPER": Sampling(2, sharpness=4),
    }.items():
        monkeypatch.setattr(study, name, sampling)
    monkeypatch.setattr(study, "_CONDITIONS", (Sampling(1, "lcm"), Sampling(2)))
    monkeypatch.setattr(study, "_STEPS", (Sampling(2, "dpm++ 2m sde"),))
    monkeypatch.setattr(study, "_LCM", Sampling(1, "lcm"))
    squares, oblongs = ((64, 64), (96, 96), (192, 192)), ((32, 64), (64, 144), (128, 256))
    monkeypatch.setattr(study, "FORMATS", {"1:1": squares, "2:1": oblongs})
    monkeypatch.setattr(study, "PUBLISHED", Sampling(3, "dpm++ 2m", 5.0))
    monkeypatch.setattr(study.paper, "SAMPLING", Sampling(2, "ddim", 7.5))
    monkeypatch.setattr(study, "SIZES", squares)
    monkeypatch.setattr(study, "PROMPTS", ("a cat",))


def test_the_study_writes_its_tables(small, tmp_path, capsys):
    assert main(["study", "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    measured = results.read(tmp_path / "study.json")
    tables = [table(measured)[1] for table in (study.choice_table, study.format_table, study.credential_table)]
    assert all(row[0] in printed for rows in tables for row in rows)
    choices, formats, credential = tables
    # In so small a study the paper's own condition has a size in common with the others.
    assert [row[0] for row in choices if row[0] != "ddim, 2 steps, CFG 7.5"] == [
        *["lcm, 1 steps"] * 3, *["euler, 2 steps"] * 3, *["euler, 2 steps, attention 4 times sharper"] * 2
    ]  # fmt: skip
    assert {row[3] for row in choices if row[2] == "64×64"} == {"no effect"}
    names = [row[:2] for row in formats]
    assert names.count(["dpm++ 2m sde, 2 steps", "1:1"]) == names.count(["lcm, 1 steps", "2:1"]) == 1
    assert [row[:2] for row in credential] == [["f=2", "4.30"], ["f=3", "2.90"]]

    (result,) = [each for each in measured if each.sampling == Sampling(2)]
    error, paper = (
        sum(score.mse for score in result.of(name, (192, 192))) for name in (of_trained(48), named(PAPER, 2))
    )
    row = next(row for row in choices if row[0] == "euler, 2 steps" and row[2] == "192×192")
    assert row[4].startswith(f"{error / paper:.2f} (")
