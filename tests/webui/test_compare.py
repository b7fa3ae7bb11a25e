"""Compare with dense: two independent runs, and a comparison image of both."""

from __future__ import annotations

import gc
import random
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.unit.small_models import hook_counts

from .generations import add_script, at_call, at_each_step, crash_at

FACTOR_2 = {"factor": 2}
COMPARE = {**FACTOR_2, "compare": True}
STEPS = 4


@pytest.fixture(autouse=True)
def saved(host):
    host.images.saved.clear()
    return host.images.saved


@pytest.fixture
def pairs(host, monkeypatch):
    """The pairs of images, with ToDo and dense, that were drawn on sheets."""
    drawn = []
    sheet = host.ours("webui.compare.pair")
    draw = sheet.draw

    def record(columns, font):
        drawn.extend(zip(*(column.images for column in columns), strict=True))
        return draw(columns, font)

    monkeypatch.setattr(sheet, "draw", record)
    return drawn


def is_sheet(image):
    return not hasattr(image, "latent")


def patched(host):
    """Records for each denoiser call whether ToDo is on."""
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
def test_the_image_is_the_same_as_without_comparing(host, fields):
    alone = host.generate(FACTOR_2, **fields)
    compared = host.generate(COMPARE, **fields)
    assert torch.equal(compared.latents, alone.latents)
    *images, sheet = compared.processed.images
    assert is_sheet(sheet)
    assert not any(map(is_sheet, images))
    assert compared.processed.infotexts == [*alone.processed.infotexts, alone.processed.infotexts[0]]
    assert "compare" not in compared.processed.info.lower()


def test_the_dense_run_is_the_same_as_without_todo(host, pairs):
    compared = host.generate(COMPARE, batch_size=2, n_iter=2, enable_hr=True)
    dense = host.generate(batch_size=2, n_iter=2, enable_hr=True)
    assert torch.equal(torch.stack([dense.latent for _, dense in pairs]), dense.latents)
    assert torch.equal(torch.stack([todo.latent for todo, _ in pairs]), compared.latents)


def test_a_random_seed_is_the_same_in_both_runs(host, pairs):
    seed = host.generate(COMPARE, seed=-1).p.all_seeds[0]
    assert torch.equal(pairs[0][1].latent, host.generate(seed=seed).latents[0])
    assert torch.equal(pairs[0][0].latent, host.generate(FACTOR_2, seed=seed).latents[0])


def test_todo_is_on_in_the_first_run_and_off_in_the_second(host):
    seen = patched(host)
    host.generate(COMPARE)
    assert seen == [True] * STEPS + [False] * STEPS


def test_the_last_value_of_a_list_asks_for_a_comparison(host):
    listed = [True, "manual", 64, 2, 1, 1, "nearest", "cycle", 0, 1, False, "both", 0, True, True]
    assert is_sheet(host.generate(*listed).processed.images[-1])


@pytest.mark.parametrize("args", [[{"enabled": False, "compare": True}], [{"compare": False}], [{"compare": "maybe"}]])
def test_no_dense_run_without_a_comparison(host, args):
    outcome = host.generate(*args)
    assert not any(map(is_sheet, outcome.processed.images))


def test_the_random_state_is_the_same_as_without_comparing(host):
    def draws():
        return random.random(), np.random.random(), float(torch.rand(1))

    def after(args):
        random.seed(1), np.random.seed(1), torch.manual_seed(1)
        host.generate(args)
        return draws()

    assert after(COMPARE) == after(FACTOR_2)


def test_the_sheet_is_saved_as_a_grid(host, saved):
    outcome = host.generate(COMPARE)
    (sheet,) = saved
    assert sheet["grid"] is True
    assert sheet["path"] == outcome.p.outpath_grids
    assert sheet["info"] == outcome.processed.infotexts[0]
    saved.clear()
    host.generate(COMPARE, do_not_save_grid=True)
    assert saved == []


def test_the_last_prompt_is_that_of_the_run_with_todo(host):
    outcome = host.generate(COMPARE)
    history = Path(host.paths.data_path, "params.txt").read_text(encoding="utf8")
    assert history == outcome.processed.info


@pytest.mark.parametrize(("fields", "jobs"), [({}, 2), ({"n_iter": 3}, 6)], ids=str)
def test_progress_counts_both_runs(host, fields, jobs):
    outcome = host.generate(COMPARE, **fields)
    assert host.shared.state.job_count == host.shared.state.job_no == jobs
    assert outcome.processed.comments.startswith("Compare with dense: sampling: ToDo ")


def test_after_an_interrupted_first_run_there_is_no_dense_run(host):
    seen = patched(host)
    at_each_step(host, lambda denoiser: host.shared.state.interrupt() if denoiser.step == 2 else None)
    outcome = host.generate(COMPARE)
    assert seen == [True] * 3
    assert [is_sheet(image) for image in outcome.processed.images] == [False]
    assert "interrupted, so no sheet was made" in outcome.processed.comments


def test_an_interrupted_dense_run_keeps_the_image(host):
    alone = host.generate(FACTOR_2)
    at_call(host, STEPS + 2, lambda: host.shared.state.interrupt())
    outcome = host.generate(COMPARE)
    assert torch.equal(outcome.latents, alone.latents)
    assert len(outcome.processed.images) == 1
    assert "interrupted, so no sheet was made" in outcome.processed.comments


@pytest.mark.parametrize("call", [2, STEPS + 2], ids=["with ToDo", "dense"])
def test_a_batch_that_was_skipped_is_not_compared(host, call):
    at_call(host, call, lambda: host.shared.state.skip())
    outcome = host.generate(COMPARE, n_iter=2)
    assert not any(map(is_sheet, outcome.processed.images))
    assert "skipped, so no sheet was made" in outcome.processed.comments


def test_one_click_on_interrupt_during_the_first_run_ends_all_after_that_image(host):
    """With more than one job to do, the host's button ends the generation after the image at work."""
    seen = patched(host)
    at_each_step(host, lambda denoiser: host.shared.state.stop_generating() if denoiser.step == 2 else None)
    outcome = host.generate(COMPARE, n_iter=2)
    assert seen == [True] * STEPS
    assert torch.equal(outcome.latents, host.generate(FACTOR_2).latents)
    assert [is_sheet(image) for image in outcome.processed.images] == [False]
    assert "interrupted, so no sheet was made" in outcome.processed.comments


def test_one_click_on_interrupt_during_the_dense_run_ends_it_at_once(host):
    seen = patched(host)
    at_each_step(host, lambda _: host.shared.state.stop_generating() if len(seen) == STEPS + 1 else None)
    outcome = host.generate(COMPARE)
    assert seen == [True] * STEPS + [False] * 2
    assert len(outcome.processed.images) == 1
    assert "interrupted, so no sheet was made" in outcome.processed.comments


def test_a_failed_dense_run_keeps_the_image(host, monkeypatch):
    alone = host.generate(FACTOR_2)
    crash_at(host, monkeypatch, STEPS + 2)
    outcome = host.generate(COMPARE)
    assert torch.equal(outcome.latents, alone.latents)
    assert "RuntimeError: out of memory" in outcome.processed.comments
    assert host.log.at("ERROR") == ["Compare with dense: dense failed"]


def test_every_script_finishes_the_first_run_before_the_second_begins(host, monkeypatch):
    events = []
    runner = type(host.scripts.scripts_txt2img)
    for name in ("process", "postprocess"):
        real = getattr(runner, name)
        monkeypatch.setattr(
            runner, name, lambda self, *given, name=name, real=real: (real(self, *given), events.append(name))
        )
    host.generate(COMPARE)
    assert events == ["process", "postprocess", "process", "postprocess"]


def test_a_prompt_generated_by_a_script_is_the_same_in_both_runs(host, monkeypatch, pairs):
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
    assert torch.equal(pairs[0][1].latent, host.generate(seed=101).latents[0])


def test_a_generation_inside_another_is_not_compared_separately(host):
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


def test_img2img_masks_are_not_compared(host, monkeypatch, pairs):
    """The host returns a mask after each image. The figures name the positions of the images."""

    class Masks(host.scripts.Script):
        def process(self, p, *args):
            p.mask_for_overlay = object()

        def postprocess(self, p, processed, *args):
            processed.images[:] = [each for image in processed.images for each in (image, "mask")]

    add_script(host, monkeypatch, Masks(), first=True)
    monkeypatch.setattr(host.shared.opts, "return_mask", True)
    outcome = host.generate(COMPARE, batch_size=2)
    assert outcome.processed.images[1:4:2] == ["mask", "mask"]
    figures, _ = outcome.processed.extra_generation_params["ToDo compare"]
    assert [each["index"] for each in figures["images"]] == [0, 2]
    assert len(pairs) == 2


def test_a_host_without_the_options_that_comparing_reads(host, monkeypatch):
    """As ersatzForge."""
    for option in ("return_mask", "return_mask_composite", "grid_extended_filename"):
        monkeypatch.delattr(host.shared.opts, option)
    assert is_sheet(host.generate(COMPARE, steps=1).processed.images[-1])
