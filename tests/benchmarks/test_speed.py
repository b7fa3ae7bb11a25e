"""A speed run on a narrow UNet: what it counts, writes and checks. Times themselves are not tested."""

from __future__ import annotations

import json
from contextlib import contextmanager

import pytest
import torch
from PIL import Image

from benchmarks.environment import made_by
from benchmarks.interrupt import kept
from benchmarks.method import Method
from benchmarks.speed import cases, report, results, rounds, run
from benchmarks.speed.methods import METHODS, todo_with
from benchmarks.speed.models import build_unet
from benchmarks.speed.results import SizeResult, keeps_all
from todo import Settings, patched

WIDTH = 32
ROUNDS = 2
SIZES = [(256, 128), (128, 128)]
MANUAL = Settings(mode="manual", factor=3, deep_factor=2, max_downsample=2, method="nearest-exact")
AUTO = Settings(grid=16, max_downsample=1)
MEASURED = [METHODS["dense"], todo_with(AUTO), todo_with(MANUAL), METHODS["limit"]]


def task(sizes=SIZES, methods=MEASURED, rounds=ROUNDS, **fields) -> cases.Task:
    return cases.Task(
        "sd1", "cpu", "float32", tuple(cases.Case(size, tuple(methods), rounds) for size in sizes), **fields
    )


def measure(unet, task) -> SizeResult:
    """The final result of a task with one size."""
    *_, last = rounds.measure(unet, task)
    return last


@pytest.fixture(scope="module")
def unet():
    return build_unet("sd1", torch.device("cpu"), torch.float32, WIDTH)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole run: its result and its folder, which it creates."""
    folder = tmp_path_factory.mktemp("speed") / "new" / "folder"
    return run.run(task(folder=folder), WIDTH), folder


def test_every_method_is_measured_at_every_size(finished):
    result, _ = finished
    assert [(size.width, size.height) for size in result.sizes] == SIZES
    for size in result.sizes:
        assert [row.method for row in size.rows] == [method.name for method in MEASURED]
        assert all(len(row.seconds) == ROUNDS and min(row.seconds) > 0 for row in size.rows)


def test_a_row_has_what_the_patch_kept(finished):
    """By level; of other methods nothing is known."""
    large, small = finished[0].sizes
    assert [row.kept for row in large.rows] == [None, (8 * 16, 128, 32), (6 * 11, 4 * 8, 32), None]
    assert small.rows[1].kept == (256, 64, 16)
    auto, manual = (method.name for method in MEASURED[1:3])
    assert [keeps_all(small, finished[0], name) for name in (auto, manual)] == [True, False]


def test_json_is_read_back(finished):
    result, folder = finished
    assert results.read(folder / "speed.json") == result
    written = json.loads((folder / "speed.json").read_text(encoding="utf-8"))
    assert written["sizes"][0]["rows"][1]["kept"] == [128, 128, 32]
    assert written["environment"]["versions"]["torch"] == torch.__version__
    assert written["environment"]["versions"]["todo"] == made_by()


def test_the_table_shows_each_row(finished):
    result, _ = finished
    lines = report.table(result).splitlines()
    shown = [line for line in lines if line.startswith(("256×128", "128²"))]
    assert len(shown) == len(SIZES) * len(MEASURED)
    assert f"\n{ROUNDS} rounds. Medians" in report.table(result)
    assert "128, 128, 32" in shown[1]
    assert f"×{result.sizes[0].speedup(MEASURED[1].name).median:.2f}" in shown[1]


def test_a_plot_is_written(finished):
    with Image.open(finished[1] / "speed.png") as image:
        image.verify()
        assert image.format == "PNG"
        assert min(image.size) > 500


def test_a_plot_of_a_single_size_is_written(tmp_path):
    run.run(task(SIZES[1:], MEASURED[:2], 1, folder=tmp_path), WIDTH)
    with Image.open(tmp_path / "speed.png") as image:
        assert min(image.size) > 300


def test_whole_sampling_loops_turn_the_phase(tmp_path):
    result = run.run(task(SIZES[:1], MEASURED[:2], 1, steps=9, folder=tmp_path), WIDTH)
    assert result.sizes[0].rows[1].kept == (128, 128, 32)


def test_a_patch_without_effect_is_an_error(unet):
    planned, applied = Settings(mode="manual"), Settings(start=1, end=1)
    idle = Method("idle", lambda unet, latent: patched(unet, applied), lambda latent: planned)
    with pytest.raises(RuntimeError, match=r"nothing was downsampled: .*with an empty step window"):
        measure(unet, task(SIZES[1:], [METHODS["dense"], idle], 1))


def test_calls_are_measured_at_the_beginning_of_the_step_window(unet):
    settings = Settings(grid=16, start=0.55, end=0.6, taper=True)
    size = measure(unet, task([(256, 256)], [METHODS["dense"], todo_with(settings)], 1))
    assert size.rows[1].kept[0] == 16 * 16


def test_running_out_of_memory_is_a_result(tmp_path):
    huge = 2**60

    @contextmanager
    def greedy(unet, latent):
        def allocate(*_):
            torch.empty(huge, dtype=torch.uint8)

        handle = unet.register_forward_pre_hook(allocate)
        try:
            yield None
        finally:
            handle.remove()

    compared = [METHODS["dense"], Method("greedy", greedy), METHODS["limit"]]
    result = run.run(task(SIZES[1:], compared, 2, folder=tmp_path), WIDTH)
    (size,) = result.sizes
    assert [row.out_of_memory for row in size.rows] == [False, True, False]
    assert [None in row.seconds for row in size.rows] == [False, True, False]
    assert size.speedup("greedy") is None
    assert results.read(tmp_path / "speed.json") == result
    assert report.OUT_OF_MEMORY in report.table(result)


def test_a_method_settles_before_each_timed_call(unet, monkeypatch):
    """On a GPU. Here one is pretended for a CPU."""
    steps = []

    def call(unet, given):
        steps.append(patch_of(unet).settings.factor if patch_of(unet) else 1)
        return given.latent

    def patch_of(unet):
        return getattr(unet, "_todo_patch", None)

    monkeypatch.setattr(rounds, "_SETTLING", {"cpu": 1})
    monkeypatch.setattr(rounds, "call", call)
    monkeypatch.setattr(rounds._Run, "count", lambda self, reports: None)
    measure(unet, task(SIZES[1:], [METHODS["dense"], todo_with(MANUAL)], 2))
    assert steps == [1, 1, 1, MANUAL.factor, MANUAL.factor, MANUAL.factor, MANUAL.factor, 1, 1]


def test_any_other_error_ends_the_run(unet):
    @contextmanager
    def failing(unet, latent):
        raise RuntimeError("shapes do not fit")
        yield None

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        measure(unet, task(SIZES[1:], [METHODS["dense"], Method("failing", failing)]))


def stop_at(number: int, monkeypatch) -> None:
    """Interrupts call `number`, counted from 1. The first call only sets things up."""
    calls = []
    original = rounds.call

    def call(unet, given):
        calls.append(given)
        if len(calls) == number:
            raise KeyboardInterrupt
        return original(unet, given)

    monkeypatch.setattr(rounds, "call", call)


def test_add_keeps_other_sizes_and_replaces_measured_ones(monkeypatch, tmp_path):
    small = task(SIZES[1:], MEASURED[:2], 1, folder=tmp_path, add=True)
    first = run.run(small, WIDTH)
    with monkeypatch.context() as patching:
        stop_at(1, patching)
        with pytest.raises(KeyboardInterrupt):
            run.run(small, WIDTH)
    assert results.read(tmp_path / "speed.json").sizes == first.sizes
    second = run.run(task(SIZES[:1], MEASURED[:3], 1, folder=tmp_path, add=True), WIDTH)
    assert second.sizes[0] == first.sizes[0]
    assert [size.label for size in second.sizes] == ["128²", "256×128"]
    assert second.methods == [method.name for method in MEASURED[:3]]
    third = run.run(small, WIDTH)
    assert third.sizes[0] != first.sizes[0]
    assert third.sizes[1] == second.sizes[1]
    assert results.read(tmp_path / "speed.json") == third


def test_nothing_is_written_if_nothing_was_measured(monkeypatch, tmp_path):
    stop_at(1, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run.run(task(folder=tmp_path), WIDTH)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_run_keeps_its_results(monkeypatch, tmp_path):
    """All of the first size, and two methods of the second one."""
    monkeypatch.setattr(kept, "text", "nothing was written")
    stop_at(1 + len(MEASURED) + 3, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run.run(task(rounds=1, folder=tmp_path), WIDTH)
    result = results.read(tmp_path / "speed.json")
    first, second = result.sizes
    assert [row.seconds[0] is not None for row in first.rows] == [True] * len(MEASURED)
    assert [row.seconds[0] is not None for row in second.rows] == [True, True, False, False]
    assert (first.complete, second.complete, result.complete) == (True, False, 1)
    assert kept.text.startswith(f"{tmp_path / 'speed.json'} has 1 of 2 sizes complete")
