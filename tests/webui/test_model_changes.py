"""Generations in which the model changes: refiner, hires checkpoint, another checkpoint."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from tests.standin import models
from tests.standin.host import CHECKPOINT, small_unet
from tests.unit.small_models import assert_no_hooks, hook_counts

from .generations import CALLS, FACTOR_2, FIRST, SECOND, at_each_step


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


def test_a_checkpoint_selected_between_two_generations_is_the_one_patched(host):
    host.generate(FACTOR_2)
    host.add_checkpoint("other", models.factory())
    host.use_checkpoint("other")
    seen, unets = note_models(host)
    host.generate(FACTOR_2)
    assert seen == [(True, False)] * 4
    host.use_checkpoint(CHECKPOINT)
    assert_no_hooks(*unets.values())
