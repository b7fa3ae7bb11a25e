"""Compare with neighbouring settings: a run for each, all their images, the figures and one sheet."""

from __future__ import annotations

import json
from copy import copy

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

from tests.standin import models

from .generations import at_call, at_each_step, crash_at

STEPS = 4
RATIOS = [2, None, 1.5, 3, 4]
"""Those of the images at a ratio of 2: it, dense, and those tried beside it, the weakest first."""
FACTOR_2 = {"factor": 2}
COMPARE = {**FACTOR_2, "compare": "settings"}


def shown(outcome):
    """The images with a latent, without the sheet."""
    return [image for image in outcome.processed.images if hasattr(image, "latent")]


def sheets(outcome):
    return [image for image in outcome.processed.images if not hasattr(image, "latent")]


def figures(outcome):
    """As they are in the API's answer."""
    return json.loads(json.dumps(outcome.processed.extra_generation_params["ToDo compare"], allow_nan=False))


@pytest.mark.parametrize(
    "fields",
    [{}, {"enable_hr": True}, {"batch_size": 2, "n_iter": 2}, {"width": 144, "height": 112}, {"tab": "img2img"}],
    ids=str,
)
def test_each_image_is_the_same_as_with_its_settings_alone(host, fields):
    compared = host.generate(COMPARE, **fields)
    alone = [host.generate(*args, **fields) for args in ([FACTOR_2], [False], *([{"factor": f}] for f in (1.5, 3, 4)))]
    latents = torch.stack([image.latent for image in shown(compared)])
    assert torch.equal(latents, torch.cat([each.latents for each in alone]))
    texts = [text for each in alone for text in each.processed.infotexts]
    assert compared.processed.infotexts == [*texts, texts[0]]
    assert len(sheets(compared)) == 1


def test_the_seeds_follow_the_images(host):
    outcome = host.generate(COMPARE, batch_size=2)
    assert outcome.processed.all_seeds == [11, 12] * 5 + [11]
    assert outcome.p.all_seeds == [11, 12]


def test_in_mode_auto_the_keys_per_side_vary(host):
    """At 384×384 a latent has 48×48 positions. 36 per side keep what 24 keep, at most half of each side."""
    outcome = host.generate({"grid": 24, "compare": "settings"}, width=384, height=384, steps=9)
    settings = [each["settings"] for each in figures(outcome)]
    assert [each and each["grid"] for each in settings] == [24, None, 18]
    assert "dense" in outcome.processed.comments
    assert "18 per side" in outcome.processed.comments


def test_settings_that_do_nothing_at_this_size_are_not_tried(host):
    """60 and 40 per side do not act on 48×48 positions, but 40 are asked for."""
    outcome = host.generate({"grid": 40, "compare": "settings"}, width=384, height=384, steps=9)
    settings = [each["settings"] for each in figures(outcome)]
    assert [each and each["grid"] for each in settings] == [40, None, 30, 20]
    assert "sampling: 40 per side: no effect · dense " in outcome.processed.comments
    assert figures(outcome)[0]["speed_up"] is None


@pytest.mark.parametrize(
    "settings",
    [{"mode": "auto"}, {"factor": 2, "passes": "hires"}, {"factor": 2, "start": 0.5, "end": 0.5}],
    ids=str,
)
@pytest.mark.parametrize(
    ("compare", "others"), [(True, ""), ("settings", ", with neighbouring settings neither")], ids=str
)
def test_where_nothing_acts_nothing_is_made(host, settings, compare, others):
    steps = []
    at_each_step(host, lambda _: steps.append(1))
    outcome = host.generate({**settings, "compare": compare})
    assert len(outcome.processed.images) == 1
    assert len(steps) == host.shared.state.job_count * STEPS == STEPS
    note = outcome.processed.comments.splitlines()[-1]
    assert note.startswith("Compare with ")
    assert ": no effect " in note
    assert note.endswith(f"{others}; no comparison was made")


def test_in_img2img_the_steps_that_run_count(host):
    """7 of 20, which are few: then 24 per side, but not 32, act on the 24 × 24 positions of a latent."""
    fields = {"tab": "img2img", "steps": 20, "denoising_strength": 0.3, "width": 256, "height": 256}
    totals = []
    at_each_step(host, lambda denoiser: totals.append(denoiser.total_steps))
    outcome = host.generate({"grid": 16, "compare": "settings"}, **fields)
    (first,) = host.ours("webui.host").passes_of(outcome.p)
    assert first.steps == totals[0] == 7
    assert [each["settings"] and each["settings"]["grid"] for each in figures(outcome)] == [16, None]
    host.shared.opts.img2img_fix_steps = True
    assert host.ours("webui.host").passes_of(outcome.p)[0].steps == 20
    del host.shared.opts.img2img_fix_steps


def test_settings_without_effect_are_compared_where_neighbouring_ones_have_one(host):
    outcome = host.generate({"factor": 1, "compare": "settings"})
    assert [each["settings"] and each["settings"]["factor"] for each in figures(outcome)] == [1, None, 1.5, 2]


def test_on_a_model_of_an_unknown_family_all_are_tried(host):
    host.add_checkpoint("other", models.shared(lambda unet: models.LoadedModel(unet, "sd3"), host.unet))
    host.use_checkpoint("other")
    assert len(figures(host.generate(COMPARE))) == 5


@pytest.mark.parametrize(
    ("wanted", "fields", "knob"),
    [
        ({"factor": 2}, {}, "factor"),
        ({"factor": 2, "hires_factor": 3}, {}, "factor"),
        ({"factor": 2, "hires_factor": 3}, {"enable_hr": True}, "hires_factor"),
        ({"factor": 2, "hires_factor": 3, "passes": "first"}, {"enable_hr": True}, "factor"),
    ],
    ids=str,
)
def test_one_knob_varies(host, wanted, fields, knob):
    outcome = host.generate({**wanted, "taper": True, "end": 0.75, "compare": "settings"}, **fields)
    chosen, dense, *others = figures(outcome)
    assert (chosen["images"][0]["index"], dense["settings"]) == (0, None)
    given = chosen["settings"]
    for each in others:
        assert {name for name, value in each["settings"].items() if value != given[name]} <= {knob}


def test_the_figures_are_data(host):
    outcome = host.generate(COMPARE, batch_size=2)
    assert [each["settings"] and each["settings"]["factor"] for each in figures(outcome)] == RATIOS
    assert [each["images"][0]["index"] for each in figures(outcome)] == [0, 2, 4, 6, 8]
    for each in (columns := figures(outcome)):
        assert each["speed_up"] == pytest.approx(columns[1]["seconds"] / each["seconds"], rel=0.05)
        for number, image in enumerate(each["images"]):
            assert image["seed"] == 11 + number
            made, expected = (
                np.asarray(outcome.processed.images[which["images"][number]["index"]]) for which in (each, columns[1])
            )
            if each is columns[1]:
                assert (image["psnr"], image["ssim"]) == (None, 1)
            else:
                assert image["psnr"] == pytest.approx(peak_signal_noise_ratio(expected, made), abs=0.001)
    assert "ToDo compare" not in outcome.p.extra_generation_params
    assert not any("ToDo compare" in text for text in outcome.processed.infotexts)


def test_the_figures_of_a_comparison_with_dense_are_data_too(host):
    outcome = host.generate({**FACTOR_2, "compare": True})
    todo, dense = figures(outcome)
    assert (dense["images"][0]["index"], todo["images"][0]["index"]) == (None, 0)
    assert todo["settings"] == host.Settings(factor=2).to_dict()


def test_progress_counts_and_names_all_runs(host):
    said = []
    at_each_step(host, lambda _: said.append(host.shared.state.textinfo))
    host.generate(COMPARE, n_iter=2)
    assert host.shared.state.job_count == host.shared.state.job_no == 5 * 2
    runs = ["ratio 2 (1", "dense (2", "ratio 1.5 (3", "ratio 3 (4", "ratio 4 (5"]
    assert said == [f"Compare: {run} of 5)" for run in runs for _ in range(2 * STEPS)]
    assert host.shared.state.textinfo is None


@pytest.mark.parametrize(("run", "images"), [(0, 1), (1, 1), (2, 2), (3, 3), (4, 4)])
def test_interrupting_leaves_what_is_complete(host, run, images):
    at_call(host, run * STEPS + 2, lambda: host.shared.state.interrupt())
    outcome = host.generate(COMPARE)
    assert len(shown(outcome)) == images
    assert len(sheets(outcome)) == (images > 1)
    assert "interrupted" in outcome.processed.comments


@pytest.mark.parametrize(("run", "images"), [(0, 1), (1, 1), (2, 2), (3, 3), (4, 4)])
def test_a_host_may_not_tell_of_a_batch_that_was_interrupted(host, monkeypatch, run, images):
    """As ersatzForge, which then also decodes a smaller image."""
    runner = host.scripts.ScriptRunner
    told = runner.postprocess_batch
    state = host.shared.state
    monkeypatch.setattr(
        runner, "postprocess_batch", lambda self, *args, **more: state.interrupted or told(self, *args, **more)
    )
    at_call(host, run * STEPS + 2, state.interrupt)
    outcome = host.generate(COMPARE)
    assert len(shown(outcome)) == images
    assert len(sheets(outcome)) == (images > 1)
    assert "interrupted" in outcome.processed.comments


def test_one_click_on_interrupt_in_a_later_run_ends_it_at_once(host):
    steps = []
    at_each_step(host, lambda _: steps.append(1))
    at_each_step(host, lambda _: host.shared.state.stop_generating() if len(steps) == 2 * STEPS + 1 else None)
    outcome = host.generate(COMPARE)
    assert len(steps) == 2 * STEPS + 2
    assert len(shown(outcome)) == 2


def test_complete_batches_of_an_interrupted_run_are_kept(host):
    batches = 2 + 2 + 1  # with the page's settings, dense, and one with a ratio of 1.5
    at_call(host, batches * STEPS + 2, lambda: host.shared.state.interrupt())
    outcome = host.generate(COMPARE, n_iter=2)
    assert len(shown(outcome)) == batches
    assert [len(each["images"]) for each in figures(outcome)] == [2, 2, 1]
    assert [each["seconds"] is None for each in figures(outcome)] == [False, False, True]


def test_a_skipped_run_is_left_out(host):
    at_call(host, 2 * STEPS + 2, lambda: host.shared.state.skip())
    outcome = host.generate(COMPARE)
    assert [each["settings"] and each["settings"]["factor"] for each in figures(outcome)] == [2, None, 3, 4]
    assert "ratio 1.5 was skipped" in outcome.processed.comments


def test_a_run_that_fails_is_left_out(host, monkeypatch):
    crash_at(host, monkeypatch, 3 * STEPS + 2)
    outcome = host.generate(COMPARE)
    assert [each["settings"] and each["settings"]["factor"] for each in figures(outcome)] == [2, None, 1.5, 4]
    assert "ratio 3 failed: RuntimeError: out of memory" in outcome.processed.comments
    assert len(sheets(outcome)) == 1


def test_without_a_dense_image_there_are_the_others_and_no_sheet(host, monkeypatch):
    crash_at(host, monkeypatch, STEPS + 2)
    outcome = host.generate(COMPARE)
    assert len(shown(outcome)) == 4
    assert sheets(outcome) == []
    assert "dense failed: RuntimeError: out of memory, so no sheet was made" in outcome.processed.comments


def test_masks_and_a_grid_keep_their_places(host):
    """The host looks up an image's infotext by its position, and its seed by that after the grid."""
    append = host.ours("webui.runs").append
    made = type("Processed", (), {})()
    made.images, made.infotexts = ["grid", "image", "mask"], ["text of the grid", "text"]
    made.info, made.index_of_first_image, made.seed, made.subseed = "text of the grid", 1, 5, 6
    made.all_seeds, made.all_subseeds = [5], [6]
    append(made, ["other"], ["its text"], [5], [6])
    assert made.images[3] == "other"
    assert made.infotexts[3] == "its text"
    assert (made.all_seeds[3 - 1], made.all_subseeds[3 - 1]) == (5, 6)


@pytest.mark.parametrize(
    ("value", "images"),
    [
        ("with neighbouring settings", 6),
        (" Settings ", 6),
        ("with dense", 2),
        ("true", 2),
        (1, 2),
        ("off", 1),
        (0, 1),
        (None, 1),
    ],
)
def test_values_of_the_page_and_the_api(host, value, images):
    assert len(host.generate({**FACTOR_2, "compare": value}).processed.images) == images


def test_a_wrong_value_is_reported(host):
    outcome = host.generate({**FACTOR_2, "compare": "everything"})
    assert len(outcome.processed.images) == 1
    assert "compare: 'everything' is not allowed; it must be false, true or 'settings'" in outcome.processed.comments


def test_a_generation_inside_each_run_has_its_settings_and_is_not_compared(host):
    """As ADetailer does it: with the scripts and arguments of the generation that it is in."""
    inner, busy = [], []

    def detail(denoiser):
        if denoiser.step == 2 and not busy:
            busy.append(1)
            p = host.p(tab="img2img")
            p.scripts, p.script_args = copy(denoiser.p.scripts), list(denoiser.p.script_args)
            inner.append(host.processing.process_images(p))
            busy.clear()

    at_each_step(host, detail)
    outcome = host.generate(COMPARE)
    assert len(shown(outcome)) == 5
    assert [len(each.images) for each in inner] == [1] * 5
    assert [each.extra_generation_params.get("ToDo factor") for each in inner] == ["2", None, "1.5", "3", "4"]
    assert ["ToDo" in each.extra_generation_params for each in inner] == [True, False, True, True, True]
