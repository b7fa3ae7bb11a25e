"""The patch on ControlNets that run with the UNet: those of diffusers, and a control network built from ldm's UNet."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from diffusers import ControlNetModel
from diffusers.pipelines.controlnet.pipeline_controlnet import MultiControlNetModel

from tests.unit.plain_attention import OFFSETS, replace_attention
from tests.unit.small_models import assert_no_hooks, inputs, ldm_unet, randomize_zero_weights
from tests.unit.test_diffusers import _with_diffusers_names
from todo import Settings, apply_patch, patched, remove_patch
from todo.unet import find_controlnets

GRID = (16, 24)
HINT = torch.rand(1, 3, 8 * GRID[0], 8 * GRID[1], generator=torch.Generator().manual_seed(5))


@pytest.fixture
def controlnet(diffusers_unet):
    torch.manual_seed(4)
    network = ControlNetModel.from_unet(diffusers_unet, conditioning_embedding_out_channels=(8, 8, 8, 8))
    network = randomize_zero_weights(network)
    yield network
    assert_no_hooks(network)


def residuals(network, given, timestep=500.0):
    latent, _, context = given
    with torch.no_grad():
        down, mid = network(latent, timestep, context, HINT, return_dict=False)
    return torch.cat([part.flatten() for part in (*down, mid)])


def reference(network, offset=None):
    """The network with the plain reference at its finest level, the first of its stages."""
    copied = copy.deepcopy(network)
    replace_attention(copied, "down_blocks.0.attentions.0", *GRID, 2, offset=offset)
    attention = copied.down_blocks[0].attentions[0].transformer_blocks[0].attn1
    attention.forward = _with_diffusers_names(attention.forward)
    return copied


@pytest.mark.parametrize("step", [0, 1])
def test_a_controlnet_is_downsampled_like_the_unet(diffusers_unet, controlnet, step):
    given = inputs(*GRID)
    dense = residuals(controlnet, given)
    with patched(diffusers_unet, Settings(factor=2), [controlnet]) as patch:
        patch.at(step, 20)
        output = residuals(controlnet, given)
        (row,) = [row for row in patch.report() if row.calls]
    torch.testing.assert_close(output, residuals(reference(controlnet, OFFSETS[step]), given), rtol=1e-4, atol=1e-4)
    assert (output - dense).abs().max() > 1e-3
    assert row.name == "controlnet.0.down_blocks.0.attentions.0.transformer_blocks.0"
    assert (row.level, row.tokens, row.kept) == (1, math.prod(GRID), math.prod(GRID) // 4)
    assert torch.equal(residuals(controlnet, given), dense)


def test_without_at_the_phase_advances_once_per_step_for_both(diffusers_unet, controlnet):
    given = inputs(*GRID)
    with patched(diffusers_unet, Settings(factor=2), [controlnet]) as patch:
        for step, timestep in enumerate((900.0, 600.0, 300.0)):
            # A pipeline calls its ControlNet before its UNet.
            output = residuals(controlnet, given, timestep)
            assert patch.moment.step == step
            diffusers_unet(given[0], timestep, given[2])
            assert patch.moment.step == step
            expected = residuals(reference(controlnet, OFFSETS[step]), given, timestep)
            torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-4)


def test_the_controlnets_of_a_pipeline_are_found(diffusers_unet, controlnet):
    pipeline = SimpleNamespace(unet=diffusers_unet, controlnet=controlnet)
    assert find_controlnets(pipeline) == [controlnet]
    several = SimpleNamespace(unet=diffusers_unet, controlnet=MultiControlNetModel([controlnet, controlnet]))
    assert apply_patch(several, Settings(factor=2)).networks == (diffusers_unet, controlnet)
    assert remove_patch(several) is True
    assert find_controlnets(SimpleNamespace(unet=diffusers_unet, controlnet=None)) == []
    assert find_controlnets(diffusers_unet) == []


def test_the_controlnet_of_a_cldm_model_is_found():
    model = torch.nn.Module()
    model.model = torch.nn.Module()
    model.model.diffusion_model, model.control_model = ldm_unet(), ldm_unet()
    patch = apply_patch(model, Settings(factor=2))
    assert patch.networks == (model.model.diffusion_model, model.control_model)
    patch.remove()
    assert_no_hooks(model)


def test_the_setting_leaves_controlnets_alone(diffusers_unet, controlnet):
    pipeline = SimpleNamespace(unet=diffusers_unet, controlnet=controlnet)
    with patched(pipeline, Settings(factor=2, controlnet=False), [controlnet]) as patch:
        assert patch.networks == (diffusers_unet,)
        assert_no_hooks(controlnet)


def test_a_network_without_self_attention_is_left_alone(diffusers_unet):
    adapter = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 1))
    assert find_controlnets(SimpleNamespace(unet=diffusers_unet, controlnet=adapter)) == []
    with patched(diffusers_unet, Settings(factor=2), [adapter]) as patch:
        assert patch.attached
    assert_no_hooks(adapter)


def test_a_controlnet_shared_by_two_models_belongs_to_the_last_patch(diffusers_unet, controlnet):
    other = ldm_unet()
    first = apply_patch(diffusers_unet, Settings(factor=2), [controlnet])
    second = apply_patch(other, Settings(factor=2), [controlnet])
    assert not first.attached
    assert second.attached
    assert_no_hooks(diffusers_unet)
    assert remove_patch(controlnet) is True
    assert_no_hooks(other)
