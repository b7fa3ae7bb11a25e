"""Generations from beginning to end, with everything that can happen in between. The UNet is ldm's."""

from __future__ import annotations

import gc
import weakref
from copy import copy
from typing import Any

import pytest
import torch

from tests.standin import models
from tests.standin.host import CHECKPOINT, small_unet
from tests.unit.small_models import assert_no_hooks, hook_counts

from .conftest import keys_seen

FACTOR_2 = {"factor": 2}
SIZE = 16 * 16  # tokens of the finest level at 128 × 128 pixels
KEPT = SIZE // 4
CALLS = 4 * 3  # steps times self-attention blocks of the finest level
HIRES, HIRES_KEPT = 4 * SIZE, SIZE  # at twice the size


def at_each_step(host, watch):
    """Calls `watch` with the denoiser before each denoiser call, after our own callbacks."""
    host.script_callbacks.on_cfg_denoiser(lambda params: watch(params.denoiser))


def crash_at(host, monkeypatch, call):
    """Makes the model fail in one of its calls."""
    calls = []

    def failing(x, sigma, text):
        calls.append(1)
        if len(calls) == call:
            raise RuntimeError("out of memory")
        return models.LoadedModel.apply_model(host.model, x, sigma, text)

    monkeypatch.setattr(host.model, "apply_model", failing)


def keys(host, *args: Any, **fields: Any) -> list[int]:
    with keys_seen(host.unet) as seen:
        host.generate(*args, **fields)
    return seen


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


# --- progress


@pytest.mark.parametrize("batched", [True, False], ids=["one UNet call", "two UNet calls"])
def test_the_window_does_not_depend_on_how_the_batch_is_split(host, monkeypatch, batched):
    monkeypatch.setattr(host.shared.opts, "batch_cond_uncond", batched)
    seen = keys(host, {**FACTOR_2, "end": 0.5})
    calls = 1 if batched else 2
    assert seen == [KEPT] * 2 * calls + [SIZE] * 2 * calls


def test_a_second_order_sampler_announces_twice_its_steps(host):
    seen = keys(host, {**FACTOR_2, "end": 0.5}, sampler_name="Heun", steps=4)
    assert seen == [KEPT] * 4 + [SIZE] * 3


@pytest.mark.parametrize(("sampler", "calls"), [("DPM adaptive", 12), ("DDIM", 5)])
def test_steps_beyond_the_announced_total_count_as_the_last(host, sampler, calls):
    assert keys(host, FACTOR_2, sampler_name=sampler, steps=4) == [KEPT] * calls
    assert keys(host, {**FACTOR_2, "end": 0.5}, sampler_name=sampler, steps=4) == [KEPT] * 2 + [SIZE] * (calls - 2)


def test_the_window_begins_late(host):
    assert keys(host, {**FACTOR_2, "start": 0.5}) == [SIZE] * 2 + [KEPT] * 2


def test_a_taper_keeps_more_from_step_to_step(host):
    seen = keys(host, {"factor": 4, "taper": True})
    assert seen == sorted(seen)
    assert seen[0] == SIZE // 16
    assert seen[-1] > seen[0]


def test_progress_starts_again_in_each_batch(host):
    seen = keys(host, {**FACTOR_2, "end": 0.5}, n_iter=2)
    assert seen == ([KEPT] * 2 + [SIZE] * 2) * 2


def test_each_image_of_a_batch_count_depends_on_its_seed_only(host):
    both = host.generate(FACTOR_2, n_iter=2).latents
    single = host.generate(FACTOR_2, seed=12).latents
    assert torch.equal(both[1:], single)


# --- passes

FIRST = 4
SECOND = 3  # int(0.7 · 4) + 1


@pytest.mark.parametrize(
    ("wanted", "first", "second"),
    [
        ({**FACTOR_2}, KEPT, HIRES_KEPT),
        ({**FACTOR_2, "passes": "first"}, KEPT, HIRES),
        ({**FACTOR_2, "passes": "hires"}, SIZE, HIRES_KEPT),
        ({**FACTOR_2, "hires_factor": 4}, KEPT, HIRES // 16),
        ({**FACTOR_2, "hires_factor": 1}, KEPT, HIRES),
        ({"mode": "auto", "grid": 16}, SIZE, HIRES_KEPT),
    ],
    ids=["both", "first", "hires", "hires factor", "hires factor off", "auto"],
)
def test_the_passes_of_hires_fix_are_distinguished(host, wanted, first, second):
    assert keys(host, wanted, enable_hr=True) == [first] * FIRST + [second] * SECOND


def test_progress_starts_again_in_the_hires_pass(host):
    seen = keys(host, {**FACTOR_2, "end": 0.5}, enable_hr=True)
    assert seen == [KEPT] * 2 + [SIZE] * 2 + [HIRES_KEPT] * 2 + [HIRES]


def test_the_hires_pass_is_reported_separately(host):
    host.generate(FACTOR_2, enable_hr=True)
    (line,) = host.log.at("INFO")
    assert "16×16" in line
    assert "32×32" in line


def test_img2img_counts_as_the_first_pass(host):
    assert keys(host, {**FACTOR_2, "passes": "first"}, tab="img2img") == [KEPT] * SECOND
    assert keys(host, {**FACTOR_2, "passes": "hires"}, tab="img2img") == [SIZE] * SECOND


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


# --- the model changes


def note_models(host):
    """Records before each denoiser call whether hooks are on (the model in use, any other model so far)."""
    seen, unets = [], {}

    def watch(denoiser):
        unets[id(host.unet)] = host.unet
        others = [unet for unet in unets.values() if unet is not host.unet]
        seen.append((bool(hook_counts(host.unet)), any(hook_counts(unet) for unet in others)))

    at_each_step(host, watch)
    return seen, unets


def test_a_refiner_gets_the_patch_and_the_base_loses_it(host):
    refiner = host.add_checkpoint("refiner", models.factory())
    seen, unets = note_models(host)
    outcome = host.generate(FACTOR_2, refiner_checkpoint_info=refiner, refiner_switch_at=0.5)
    assert len(unets) == 2
    assert seen == [(True, False)] * 4
    for unet in unets.values():
        assert_no_hooks(unet)
    assert "ToDo effect" not in outcome.parameters
    (line,) = host.log.at("INFO")
    assert f"in {CALLS} of {CALLS} attention calls" in line


def test_progress_goes_on_with_the_refiner(host):
    # A separate model with the same weights. The image is only the same if every step has the right progress.
    refiner = host.add_checkpoint("refiner", models.factory())
    wanted = {**FACTOR_2, "end": 0.75}
    alone = host.generate(wanted)
    switched = host.generate(wanted, refiner_checkpoint_info=refiner, refiner_switch_at=0.5)
    assert torch.equal(alone.latents, switched.latents)


@pytest.mark.parametrize("args", [(), (FACTOR_2,)], ids=["off", "on"])
def test_the_model_that_a_refiner_replaces_can_be_freed(host, args):
    base, refiner = (host.add_checkpoint(name, models.factory()) for name in ("base", "refiner"))
    unet = weakref.ref(models.unet_of(host.use_checkpoint(base.title)))
    alive = []

    def watch(denoiser):
        gc.collect()
        alive.append(unet() is not None)

    at_each_step(host, watch)
    host.generate(*args, refiner_checkpoint_info=refiner, refiner_switch_at=0.5)
    assert alive == [True, True, False, False]


def test_a_refiner_without_self_attention_does_not_hide_the_effect_of_earlier_steps(host):
    refiner = host.add_checkpoint("transformer", models.shared(models.LoadedModel, models.FusedUNet()))
    outcome = host.generate(FACTOR_2, refiner_checkpoint_info=refiner, refiner_switch_at=0.5)
    assert_no_hooks(small_unet())
    assert "ToDo effect" not in outcome.parameters
    assert "no effect" not in outcome.processed.comments


def test_a_hires_checkpoint_gets_the_patch_and_in_the_next_batch_the_first_one_again(host):
    second = host.add_checkpoint("hires", models.factory())
    seen, unets = note_models(host)
    host.generate(FACTOR_2, enable_hr=True, hr_checkpoint_info=second, n_iter=2)
    assert len(unets) == 3  # the hires checkpoint is loaded twice, each time as a new model
    assert seen == [(True, False)] * 2 * (FIRST + SECOND)
    for unet in unets.values():
        assert_no_hooks(unet)


def test_another_model_object_around_the_same_unet_keeps_the_patch(host):
    refiner = host.add_checkpoint("same modules", models.shared(models.LoadedModel, small_unet()))
    outcome = host.generate(FACTOR_2, refiner_checkpoint_info=refiner, refiner_switch_at=0.5)
    assert torch.equal(outcome.latents, host.generate(FACTOR_2).latents)


def test_a_forge_model_is_patched(host):
    expected = host.generate(FACTOR_2).latents
    host.add_checkpoint("forge", models.shared(models.ForgeModel, small_unet()))
    host.use_checkpoint("forge")
    outcome = host.generate(FACTOR_2)
    assert torch.equal(outcome.latents, expected)
    assert "ToDo effect" not in outcome.parameters


# --- no effect


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
    assert outcome.parameters["ToDo effect"].startswith("none on this model: ")
    assert outcome.processed.comments.count("ToDo has no effect on this model") == 1
    (record,) = host.log.records
    assert record.levelname == "WARNING"
    assert "attn1" in record.getMessage()


def test_no_effect_at_a_size_is_reported_everywhere(host):
    outcome = host.generate({"mode": "auto"})
    assert outcome.processed.comments == "ToDo has no effect at this size\n"
    assert host.log.at("INFO") == ["no effect at this size"]
    assert all("ToDo effect: none at this size" in infotext for infotext in outcome.processed.infotexts)
    assert torch.equal(outcome.latents, host.generate().latents)


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


# --- a generation by another extension in the middle


def add_detailer(host, monkeypatch, with_our_script):
    """Adds a script that refines each image with its own generation. It ends and restarts ours with copies of `p`."""
    inner_seen = []

    class Detailer(host.scripts.Script):
        args_from = args_to = 0

        def postprocess_image(self, p, pp, *args):
            if getattr(p, "inner", False):
                return
            p.scripts.postprocess(copy(p), host.processing.Processed(copy(p), []))
            inner = host.p([FACTOR_2], tab="img2img")
            inner.inner = True
            if not with_our_script:
                inner.scripts = copy(inner.scripts)
                inner.scripts.alwayson_scripts = []
            with keys_seen(host.unet) as seen:
                host.processing.process_images(inner)
            inner_seen.append(seen)
            p.scripts.process(copy(p))

    runner = host.scripts.scripts_txt2img
    monkeypatch.setattr(runner, "alwayson_scripts", [*runner.alwayson_scripts, Detailer()])
    return inner_seen


@pytest.mark.parametrize("with_our_script", [False, True], ids=["without ours", "with ours"])
def test_a_generation_in_the_middle_only_has_the_patch_if_it_asks_for_it(host, monkeypatch, with_our_script):
    plain = host.generate(FACTOR_2, n_iter=2)
    inner = add_detailer(host, monkeypatch, with_our_script)
    host.log.records.clear()
    outcome = host.generate(FACTOR_2, n_iter=2)
    assert torch.equal(outcome.latents, plain.latents)
    assert inner == [[KEPT if with_our_script else SIZE] * SECOND] * 2
    lines = host.log.at("INFO")
    assert len(lines) == (3 if with_our_script else 1)
    assert f"in {2 * CALLS} of {2 * CALLS} attention calls" in lines[-1]
    assert_no_hooks(host.unet)
    assert outcome.processed.infotexts == plain.processed.infotexts


def test_a_generation_in_the_middle_of_one_without_todo_gets_nothing(host, monkeypatch):
    plain = host.generate(n_iter=2)
    add_detailer(host, monkeypatch, with_our_script=False)
    assert torch.equal(host.generate(n_iter=2).latents, plain.latents)
    assert host.log.records == []


def test_a_generation_in_the_middle_does_not_remove_the_effect_from_the_infotext(host, monkeypatch):
    add_detailer(host, monkeypatch, with_our_script=False)
    outcome = host.generate({"mode": "auto"}, n_iter=2)
    assert ["ToDo effect: none at this size" in infotext for infotext in outcome.processed.infotexts] == [True, True]


def test_a_hook_of_another_extension_stays(host):
    attention = host.unet.get_submodule("input_blocks.1.1").transformer_blocks[0].attn1
    handle = attention.to_k.register_forward_pre_hook(lambda *_: None)
    host.generate(FACTOR_2)
    left = hook_counts(host.unet)
    handle.remove()
    assert list(left.values()) == [1]


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


def test_a_checkpoint_selected_between_two_generations_is_the_one_patched(host):
    host.generate(FACTOR_2)
    host.add_checkpoint("other", models.factory())
    host.use_checkpoint("other")
    seen, unets = note_models(host)
    host.generate(FACTOR_2)
    assert seen == [(True, False)] * 4
    host.use_checkpoint(CHECKPOINT)
    assert_no_hooks(*unets.values())


def test_a_compiled_model_gets_a_warning(host, monkeypatch):
    host.generate(FACTOR_2)
    assert host.log.at("WARNING") == []
    compiled = host.unet.input_blocks[1]
    monkeypatch.setattr(compiled, "_compiled_call_impl", compiled._call_impl)  # as torch.compile marks it
    host.generate(FACTOR_2)
    assert len(host.log.at("WARNING")) == 1
    assert "torch.compile" in host.log.at("WARNING")[0]
