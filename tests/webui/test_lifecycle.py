"""Generations from beginning to end: on and off, interrupted, without effect, after reloading the page."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from tests.standin import models
from tests.unit.small_models import assert_no_hooks, hook_counts

from .generations import CALLS, FACTOR_2, KEPT, SIZE, at_each_step, crash_at, keys

# --- on and off


def test_the_patch_is_on_while_sampling_and_off_afterwards(host):
    seen = []
    at_each_step(host, lambda _: seen.append(bool(hook_counts(host.unet))))
    on = host.generate(FACTOR_2)
    assert seen == [True] * 4
    assert_no_hooks(host.unet)
    assert not torch.equal(on.latents, host.generate().latents)


def test_off_adds_no_hooks(host):
    seen = []
    at_each_step(host, lambda _: seen.append(hook_counts(host.unet)))
    host.generate()
    assert seen == [{}] * 4


def test_a_generation_with_todo_leaves_the_next_one_alone(host):
    before = host.generate()
    host.generate(FACTOR_2)
    assert torch.equal(host.generate().latents, before.latents)


def test_the_same_seed_gives_the_same_image(host):
    first, second = host.generate(FACTOR_2), host.generate(FACTOR_2)
    assert torch.equal(first.latents, second.latents)
    assert first.processed.infotexts == second.processed.infotexts


def test_the_kept_tokens_change_from_step_to_step(host):
    cycling, fixed = host.generate(FACTOR_2), host.generate({**FACTOR_2, "phase": "fixed"})
    assert not torch.equal(cycling.latents, fixed.latents)


def test_one_line_is_logged_for_a_generation(host):
    host.generate(FACTOR_2, n_iter=2)
    (line,) = host.log.at("INFO")
    assert line == f"level 1, 16×16: keys/values {SIZE} → {KEPT} in {2 * CALLS} of {2 * CALLS} attention calls"
    assert host.log.at("WARNING") == []


def test_nothing_is_logged_when_off(host):
    host.generate()
    assert host.log.records == []


def test_nothing_keeps_a_finished_generation_in_memory(host):
    outcome = host.generate(FACTOR_2)
    p = weakref.ref(outcome.p)
    del outcome
    gc.collect()
    assert p() is None


# --- interrupted


def test_an_interrupted_generation_removes_the_patch(host):
    at_each_step(host, lambda denoiser: host.shared.state.interrupt() if denoiser.step == 1 else None)
    seen = keys(host, FACTOR_2, n_iter=2)
    assert seen == [KEPT] * 2
    assert_no_hooks(host.unet)


def test_a_generation_interrupted_before_its_first_step_reports_nothing(host):
    p = host.p([FACTOR_2])
    host.shared.state.begin()
    host.shared.state.interrupt()
    processed = host.processing.process_images(p)
    assert processed.comments == ""
    assert "ToDo effect" not in p.extra_generation_params
    assert host.log.records == []


def test_a_skipped_batch_does_not_stop_the_next(host):
    skip_once = iter([True])
    at_each_step(host, lambda _: host.shared.state.skip() if next(skip_once, False) else None)
    seen = keys(host, FACTOR_2, n_iter=2)
    assert seen == [KEPT] * 5


def test_the_patch_of_a_failed_generation_goes_with_its_p(host, monkeypatch):
    crash_at(host, monkeypatch, call=2)
    p = host.p([FACTOR_2])
    with pytest.raises(RuntimeError, match="out of memory"):
        host.run(p)
    p.sampler = None  # as the host does when it closes `p`
    del p
    gc.collect()
    assert_no_hooks(host.unet)


@pytest.mark.parametrize("following", [(), (FACTOR_2,)], ids=["off", "on"])
def test_a_failed_generation_does_not_affect_the_next(host, monkeypatch, following):
    expected = host.generate(*following).latents
    crash_at(host, monkeypatch, call=2)
    p = host.p([FACTOR_2])
    with pytest.raises(RuntimeError):
        host.run(p)
    assert torch.equal(host.generate(*following).latents, expected)
    assert p is not None  # still referenced, as by the traceback that a host keeps


# --- no effect

TOO_SMALL = "at this size in so few steps (it acts from about 640×640 on)"


@pytest.fixture
def transformer(host):
    host.add_checkpoint("transformer", models.shared(models.LoadedModel, models.FusedUNet()))
    return host.use_checkpoint("transformer")


def test_a_model_without_self_attention_is_left_alone(host, transformer):
    expected = host.generate(n_iter=2).latents
    outcome = host.generate(FACTOR_2, n_iter=2)
    assert torch.equal(outcome.latents, expected)
    assert hook_counts(transformer) == {}


def test_a_model_without_self_attention_is_told_once(host, transformer):
    outcome = host.generate(FACTOR_2, n_iter=2)
    assert outcome.parameters["ToDo effect"] == "none on LoadedModel (ToDo is for SD1/SD2/SDXL)"
    assert outcome.processed.comments == "ToDo has no effect on LoadedModel (ToDo is for SD1/SD2/SDXL)\n"
    assert len(host.log.at("WARNING")) == 1
    assert all("attn1" in message for message in host.log.at("DEBUG")), "what a developer needs"


def test_no_effect_at_a_size_is_reported_everywhere(host):
    outcome = host.generate({"mode": "auto"})
    assert outcome.processed.comments == f"ToDo has no effect {TOO_SMALL}\n"
    assert host.log.at("INFO") == [f"no effect {TOO_SMALL}"]
    assert all(f"ToDo effect: none {TOO_SMALL}" in infotext for infotext in outcome.processed.infotexts)
    assert torch.equal(outcome.latents, host.generate().latents)


@pytest.mark.parametrize(("settings", "noted"), [({}, f"none {TOO_SMALL}"), (FACTOR_2, None)])
def test_the_effect_is_noted_by_the_last_step(host, settings, noted):
    """ersatzForge builds the infotext right after sampling, before it asks scripts about the batch."""
    seen = []
    host.script_callbacks.on_cfg_denoiser(
        lambda params: seen.append(params.denoiser.p.extra_generation_params.get("ToDo effect"))
    )
    host.generate(settings)
    assert seen[-1] == noted
    assert set(seen[:-1]) == {None}


def test_no_effect_in_the_only_pass_is_reported(host):
    outcome = host.generate({**FACTOR_2, "passes": "hires"})
    assert outcome.parameters["ToDo effect"] == "none in this pass"
    assert "ToDo has no effect in this pass" in outcome.processed.comments


def test_an_effect_in_one_pass_is_an_effect(host):
    outcome = host.generate({**FACTOR_2, "passes": "hires"}, enable_hr=True)
    assert "ToDo effect" not in outcome.parameters
    assert outcome.processed.comments == ""


def test_no_effect_is_not_carried_over_to_the_next_generation(host):
    p = host.p([{"mode": "auto"}])
    host.run(p)
    p.script_args = host.p([{"mode": "auto", "grid": 16}]).script_args
    p.width = p.height = 256
    outcome = host.run(p)
    assert "ToDo effect" not in outcome.parameters


def test_a_host_that_does_not_report_its_steps_is_named(host):
    host.script_callbacks.callback_map["cfg_denoiser"] = []
    outcome = host.generate(FACTOR_2)
    assert "ToDo has no effect on this WebUI" in outcome.processed.comments


# --- reloading the page


def test_reloading_the_page_removes_the_patch_and_works_again(own_host):
    host = own_host
    expected = host.generate(FACTOR_2).latents
    hooked = host.p([FACTOR_2])
    host.scripts.scripts_txt2img.process(hooked)
    denoiser = host.sd_samplers_cfg_denoiser.CFGDenoiser(None)
    denoiser.p, denoiser.total_steps = hooked, 4
    host.script_callbacks.cfg_denoiser_callback(
        host.script_callbacks.CFGDenoiserParams(None, None, None, 0, 4, None, None, denoiser)
    )
    assert hook_counts(host.unet)
    old = host.ours("settings")
    host.reload()
    assert_no_hooks(host.unet)
    assert host.ours("settings") is not old
    assert torch.equal(host.generate(FACTOR_2).latents, expected)


def test_reloading_the_page_does_not_log_twice(own_host, capsys):
    own_host.reload()
    own_host.reload()
    own_host.log.records.clear()
    own_host.generate(FACTOR_2)
    assert len(own_host.log.records) == 1
