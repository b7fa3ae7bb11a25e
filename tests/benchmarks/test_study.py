"""The study of the moving phase: its parts, and its tables."""

from __future__ import annotations

from benchmarks.commands import main
from benchmarks.fidelity import results, study
from benchmarks.fidelity.methods import METHODS
from benchmarks.method import DENSE
from benchmarks.sampling import SAMPLERS, Sampling


def test_the_study_varies_every_sampling_parameter():
    tasks = study.tasks()
    assert len({(task.sampling, tuple(task.sizes)) for task in tasks}) == len(tasks)
    assert all(set(task.methods) <= set(METHODS) and task.methods[0] == DENSE for task in tasks)
    samplings = [task.sampling for task in tasks]
    assert {each.steps for each in samplings if each.sampler == "euler"} == {4, 8, 12, 20, 30, 50}
    assert {each.sampler for each in samplings} == set(SAMPLERS)
    assert {each.guidance for each in samplings} == {1, 4}
    assert {each.sharpness for each in samplings} == {1, 4, 16}
    assert any(side % 32 for task in tasks for size in task.sizes for side in size)


def test_the_study_writes_its_tables(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(study, "_USUAL", Sampling(2))
    monkeypatch.setattr(study, "_FEW_STEPS", Sampling(1))
    monkeypatch.setattr(study, "_SAMPLINGS", (Sampling(1), Sampling(2), Sampling(2, "heun")))
    monkeypatch.setattr(study, "_SIZE", (64, 64))
    monkeypatch.setattr(study, "_ODD_SIZE", (80, 48))
    monkeypatch.setattr(study, "PROMPTS", ("a cat",))
    assert main(["study", "--workers", "2", "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    measured = results.read(tmp_path / "study.json")
    assert [(result.sampling, result.sizes) for result in measured] == [
        (Sampling(1), [(64, 64)]),
        (Sampling(2), [(64, 64)]),
        (Sampling(2, "heun"), [(64, 64)]),
        (Sampling(2), [(80, 48)]),
    ]

    tables = [study.sampling_table(measured), study.factor_table(measured), study.variant_table(measured)]
    assert all(row[0] in printed for _, rows in tables for row in rows)
    samplings, factors, variants = ([row[0] for row in rows] for _, rows in tables)
    assert samplings == ["euler, 1 steps", "euler, 2 steps", "heun, 2 steps", "euler, 2 steps, 48×80"]
    assert factors == [f"ToDo, finest level, f={factor}" for factor in (1.5, 2, 3, 4, 8)]
    assert tables[1][0] == ["", "euler, 2 steps", "euler, 2 steps, 48×80"]
    assert tables[2][0] == ["", "euler, 1 steps", "euler, 2 steps"]
    raster = "ToDo, finest level, phases raster, f=4"
    error, todo_error = (
        sum(score.mse for score in measured[0].of(name)) for name in (raster, "ToDo, finest level, f=4")
    )
    row = tables[2][1][variants.index(raster)]
    assert row[1].startswith(f"{error / todo_error:.2f} (")
