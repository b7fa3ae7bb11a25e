"""Compare with dense: two generations that do not know of each other, and a sheet of both."""

from __future__ import annotations

import gc
import random
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.unit.small_models import hook_counts

from .test_lifecycle import at_each_step, crash_at

HALF = {"factor": 2}
COMPARE = {**HALF, "compare": True}
STEPS = 4


@pytest.fixture(autouse=True)
def saved(host):
    host.images.saved.clear()
    return host.images.saved


@pytest.fixture
def pairs(host, monkeypatch):
    """The pairs that sheets were drawn of."""
    drawn = []
    sheet = host.ours("webui.sheet")
    draw = sheet.draw
    monkeypatch.setattr(sheet, "draw", lambda given, *rest: drawn.extend(given) or draw(given, *rest))
    return drawn


def is_sheet(image):
    return not hasattr(image, "latent")


def patched(host):
    """For each denoiser call from now on, whether ToDo is on."""
    seen = []
    at_each_step(host, lambda _: seen.append(bool(hook_counts(host.unet))))
    return seen


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"enable_hr": True},
        {"sampler_name": "Heun"},
        {"batch_size": 2, "n_iter": 2},
        {"width": 144, "height": 112},
        {"tab": "img2img"},
    ],
    ids=str,
)
def test_the_picture_is_the_one_made_without_comparing(host, fields):
    alone = host.generate(HALF, **fields)
    compared = host.generate(COMPARE, **fields)
    assert torch.equal(compared.picture, alone.picture)
    *pictures, sheet = compared.processed.images
    assert is_sheet(sheet)
    assert not any(map(is_sheet, pictures))
    assert compared.processed.infotexts == [*alone.processed.infotexts, alone.processed.infotexts[0]]
    assert "compare" not in compared.processed.info.lower()


def test_the_other_half_is_the_picture_without_todo(host, pairs):
    compared = host.generate(COMPARE, batch_size=2, n_iter=2, enable_hr=True)
    dense = host.generate(batch_size=2, n_iter=2, enable_hr=True)
    assert torch.equal(torch.stack([pair.dense.latent for pair in pairs]), dense.picture)
    assert torch.equal(torch.stack([pair.todo.latent for pair in pairs]), compared.picture)


def test_a_random_seed_is_the_same_in_both_halves(host, pairs):
    seed = host.generate(COMPARE, seed=-1).p.all_seeds[0]
    assert torch.equal(pairs[0].dense.latent, host.generate(seed=seed).picture[0])
    assert torch.equal(pairs[0].todo.latent, host.generate(HALF, seed=seed).picture[0])


def test_todo_is_on_in_the_first_half_and_off_in_the_second(host):
    seen = patched(host)
    host.generate(COMPARE)
    assert seen == [True] * STEPS + [False] * STEPS


def test_a_list_asks_for_it_by_its_last_place(host):
    listed = [True, "manual", 64, 2, 1, 1, "nearest", "cycle", 0, 1, False, "both", 0, True, True]
    assert is_sheet(host.generate(*listed).processed.images[-1])


@pytest.mark.parametrize("args", [[{"enabled": False, "compare": True}], [{"compare": False}], [{"compare": "maybe"}]])
def test_one_half_is_enough_where_nothing_is_to_be_compared(host, args):
    outcome = host.generate(*args)
    assert not any(map(is_sheet, outcome.processed.images))


def test_the_random_state_is_as_after_the_first_half(host):
    def draws():
        return random.random(), np.random.random(), float(torch.rand(1))

    def after(args):
        random.seed(1), np.random.seed(1), torch.manual_seed(1)
        host.generate(args)
        return draws()

    assert after(COMPARE) == after(HALF)


def test_the_sheet_is_saved_as_a_grid(host, saved):
    outcome = host.generate(COMPARE)
    (sheet,) = saved
    assert sheet["grid"] is True
    assert sheet["path"] == outcome.p.outpath_grids
    assert sheet["info"] == outcome.processed.infotexts[0]
    saved.clear()
    host.generate(COMPARE, do_not_save_grid=True)
    assert saved == []


def test_the_button_for_the_last_prompt_gets_the_picture_with_todo(host):
    outcome = host.generate(COMPARE)
    history = Path(host.paths.data_path, "params.txt").read_text(encoding="utf8")
    assert history == outcome.processed.info


@pytest.mark.parametrize(("fields", "jobs"), [({}, 2), ({"n_iter": 3}, 6)], ids=str)
def test_progress_counts_both_halves(host, fields, jobs):
    outcome = host.generate(COMPARE, **fields)
    assert host.shared.state.job_count == host.shared.state.job_no == jobs
    assert outcome.processed.comments.startswith("Compare with dense: sampling: dense ")


def test_interrupted_with_todo_there_is_no_dense_half(host):
    seen = patched(host)
    at_each_step(host, lambda denoiser: host.shared.state.interrupt() if denoiser.step == 2 else None)
    outcome = host.generate(COMPARE)
    assert seen == [True] * 3
    assert [is_sheet(image) for image in outcome.processed.images] == [False]
    assert "interrupted, so there is no sheet" in outcome.processed.comments


def test_interrupted_in_the_dense_half_the_picture_stays(host):
    alone = host.generate(HALF)
    calls = []

    def interrupt(denoiser):
        calls.append(denoiser.step)
        if len(calls) == STEPS + 2:
            host.shared.state.interrupt()

    at_each_step(host, interrupt)
    outcome = host.generate(COMPARE)
    assert torch.equal(outcome.picture, alone.picture)
    assert len(outcome.processed.images) == 1
    assert "interrupted, so there is no sheet" in outcome.processed.comments


@pytest.mark.parametrize("call", [2, STEPS + 2], ids=["with ToDo", "dense"])
def test_a_batch_that_was_skipped_is_not_compared(host, call):
    calls = []

    def skip(_):
        calls.append(1)
        if len(calls) == call:
            host.shared.state.skip()

    at_each_step(host, skip)
    outcome = host.generate(COMPARE, n_iter=2)
    assert not any(map(is_sheet, outcome.processed.images))
    assert "no sheet" in outcome.processed.comments


def test_a_dense_half_that_fails_leaves_the_picture(host, monkeypatch):
    alone = host.generate(HALF)
    crash_at(host, monkeypatch, STEPS + 2)
    outcome = host.generate(COMPARE)
    assert torch.equal(outcome.picture, alone.picture)
    assert "RuntimeError: out of memory" in outcome.processed.comments
    assert host.log.at("ERROR") == ["Compare with dense failed"]


def test_after_a_first_half_that_failed_the_same_request_can_be_made_again(host, monkeypatch):
    p = host.p([COMPARE])
    with monkeypatch.context() as failing:
        crash_at(host, failing, 2)
        with pytest.raises(RuntimeError):
            host.run(p)
    again = host.run(p)
    assert is_sheet(again.processed.images[-1])
    assert p.scripts is host.scripts.scripts_txt2img


def test_every_script_has_finished_with_one_half_before_the_other_begins(host, monkeypatch):
    events = []
    runner = type(host.scripts.scripts_txt2img)
    for name in ("process", "postprocess"):
        real = getattr(runner, name)
        monkeypatch.setattr(
            runner, name, lambda self, *given, name=name, real=real: (real(self, *given), events.append(name))
        )
    host.generate(COMPARE)
    assert events == ["process", "postprocess", "process", "postprocess"]


def test_a_prompt_that_a_script_made_up_is_the_same_in_both_halves(host, monkeypatch, pairs):
    count = []
    runner = type(host.scripts.scripts_txt2img)
    real = runner.process

    def process(self, p):
        count.append(1)
        p.all_prompts = [f"wildcard {len(count)}"]
        p.all_seeds = [100 + len(count)]
        real(self, p)

    monkeypatch.setattr(runner, "process", process)
    host.generate(COMPARE)
    monkeypatch.undo()
    assert len(count) == 2
    assert torch.equal(pairs[0].dense.latent, host.generate(seed=101).picture[0])


def test_a_picture_within_the_picture_is_not_compared_on_its_own(host):
    inner = []

    def once(denoiser):
        if not inner and denoiser.step == 2:
            inner.append(1)
            p = host.p([COMPARE], tab="img2img")
            p.scripts = type(denoiser.p.scripts).__new__(type(denoiser.p.scripts))
            p.scripts.__dict__.update(denoiser.p.scripts.__dict__)
            inner.append(host.processing.process_images(p))

    at_each_step(host, once)
    outcome = host.generate(COMPARE)
    assert len(inner[1].images) == 1
    assert [is_sheet(image) for image in outcome.processed.images] == [False, True]


def test_nothing_keeps_a_compared_generation_in_memory(host, saved):
    outcome = host.generate(COMPARE)
    saved.clear()
    p = weakref.ref(outcome.p)
    del outcome
    gc.collect()
    assert p() is None


def test_img2img_keeps_its_masks_apart(host):
    pictures = host.ours("webui.runs").pictures
    host.shared.opts.return_mask = True
    try:
        p = host.p()
        p.mask_for_overlay = object()
        processed = type("Processed", (), {"images": list("amamg"), "infotexts": ["", ""], "index_of_first_image": 0})
        assert pictures(p, processed) == ["a", "a"]
    finally:
        host.shared.opts.return_mask = False
