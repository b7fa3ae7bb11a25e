"""The patch on the UNet of the real diffusers, with each of its attention processors."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from tests.unit.comparing import RecordedCalls
from tests.unit.plain_attention import OFFSETS, attend, replace_attention, subsample
from tests.unit.small_models import CONTEXT, assert_no_hooks, inputs, run
from tests.unit.small_models import diffusers_unet as make_unet
from todo import Settings, patched

# Paths of the blocks of `diffusers_unet` by level: block_out_channels has two, layers_per_block is one.
BLOCKS = {
    1: ["down_blocks.0.attentions.0", "up_blocks.1.attentions.0", "up_blocks.1.attentions.1"],
    2: ["down_blocks.1.attentions.0", "up_blocks.0.attentions.0", "up_blocks.0.attentions.1"],
}


@pytest.fixture(params=["AttnProcessor2_0", "AttnProcessor", "sliced"])
def processed(request, diffusers_unet):
    """The UNet with each of diffusers' attention processors."""
    from diffusers.models import attention_processor

    if request.param == "sliced":
        diffusers_unet.set_attention_slice(1)
    else:
        diffusers_unet.set_attn_processor(getattr(attention_processor, request.param)())
    return diffusers_unet


def reference(unet, grid, factors: dict[int, float], method="nearest", offset=None):
    copied = copy.deepcopy(unet)
    for resolution, factor in factors.items():
        for path in BLOCKS[resolution]:
            # diffusers halves odd sides upwards.
            sides = [math.ceil(side / resolution) for side in grid]
            replace_attention(copied, path, *sides, factor, method, offset)
            for block in copied.get_submodule(path).transformer_blocks:
                block.attn1.forward = _with_diffusers_names(block.attn1.forward)
    return copied


def _with_diffusers_names(forward):
    def renamed(hidden_states, encoder_hidden_states=None, attention_mask=None, **others):
        return forward(hidden_states, encoder_hidden_states)

    return renamed


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("grid", [(16, 24), (13, 9), (25, 16)])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("step", [0, 1])
def test_the_unet_with_each_processor(processed, grid, batch, step):
    given = inputs(*grid, batch=batch)
    dense = run(processed, given)
    close(dense, run(reference(processed, grid, {1: 1}), given))
    with patched(processed, Settings(factor=2)) as patch:
        patch.at(step, 20)
        output = run(processed, given)
    close(output, run(reference(processed, grid, {1: 2}, offset=OFFSETS[step]), given))
    assert (output - dense).abs().max() > 1e-2
    assert torch.equal(run(processed, given), dense)


@pytest.mark.parametrize("grid", [(65, 97), (16, 24)])
def test_larger_and_deeper(diffusers_unet, grid):
    given = inputs(*grid)
    with patched(diffusers_unet, Settings(factor=3, deep_factor=2, max_downsample=2, phase="fixed")) as patch:
        output = run(diffusers_unet, given)
        kept = {(row.level, row.kept) for row in patch.report()}
    finest = math.prod(math.ceil(side / 3) for side in grid)
    deeper = math.prod(math.ceil(math.ceil(side / 2) / 2) for side in grid)
    assert kept == {(1, finest), (2, deeper)}
    close(output, run(reference(diffusers_unet, grid, {1: 3, 2: 2}), given))


@pytest.mark.parametrize("method", ["nearest", "nearest-exact"])
def test_methods(diffusers_unet, method):
    given = inputs(13, 9)
    with patched(diffusers_unet, Settings(factor=2, method=method, phase="fixed")):
        output = run(diffusers_unet, given)
    close(output, run(reference(diffusers_unet, (13, 9), {1: 2}, method), given))


def test_bfloat16():
    unet = make_unet().bfloat16()
    given = tuple(part.bfloat16() for part in inputs(13, 9))
    attention = unet.down_blocks[0].attentions[0].transformer_blocks[0].attn1
    calls = []
    with patched(unet, Settings(factor=2)) as patch:
        patch.at(1, 20)
        handle = attention.register_forward_hook(lambda _, args, output: calls.append((args[0], output)))
        assert run(unet, given).dtype == torch.bfloat16
        handle.remove()
    ((tokens, output),) = calls
    expected = attend(attention, tokens, subsample(tokens, 13, 9, 2, offset=OFFSETS[1]))
    torch.testing.assert_close(output, expected, rtol=3e-2, atol=3e-2)


def test_a_mask(diffusers_unet):
    """An attention mask has one entry for each token of the finest level."""
    transformer = diffusers_unet.down_blocks[0].attentions[0]
    features, context = torch.randn(1, 32, 13, 9), torch.randn(1, 7, CONTEXT)
    mask = torch.where(torch.rand(1, 13 * 9) > 0.3, 0.0, -10000.0)[:, None]

    def output(**masked):
        with torch.no_grad():
            return transformer(features, context, return_dict=False, **masked)[0]

    dense, masked = output(), output(attention_mask=mask)
    with patched(diffusers_unet, Settings(factor=2)) as patch:
        assert not torch.allclose(output(), dense, atol=1e-3)
        assert torch.equal(output(attention_mask=mask), masked)
        assert not torch.allclose(output(), dense, atol=1e-3)
        row = next(row for row in patch.report() if row.name.startswith("down_blocks.0"))
    assert (row.calls, row.downsampled) == (3, 2)
    assert [("mask" in reason, count) for reason, count in row.skips.items()] == [(True, 1)]


def test_the_finest_attention_at_half_the_latent():
    unet = make_unet(
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D")
    )
    with patched(unet, Settings(factor=2)) as patch:
        run(unet, inputs(24, 16))
        assert {(row.level, row.grid, row.kept) for row in patch.report()} == {(1, (12, 8), 24)}


def test_projections_fused_after_patching():
    unet = make_unet()
    given = inputs(16, 24)
    with patched(unet, Settings(factor=2)) as patch:
        unet.fuse_qkv_projections()
        run(unet, given)
        for row in patch.report():
            assert row.downsampled == 0
            assert "bypass" in next(iter(row.skips))
    assert_no_hooks(unet)


def test_perturbed_attention_keeps_its_values():
    """PAG computes only values for half of the batch, and returns them as they are."""
    from diffusers.models.attention_processor import PAGIdentitySelfAttnProcessor2_0

    unet = make_unet()
    attention = unet.down_blocks[0].attentions[0].transformer_blocks[0].attn1
    attention.set_processor(PAGIdentitySelfAttnProcessor2_0())
    with patched(unet, Settings(factor=2)) as patch:
        patch.at(1, 20)
        with RecordedCalls(attention) as recorded:
            run(unet, inputs(13, 9, batch=2))
        ((tokens, output),) = recorded.calls
    with torch.no_grad():
        dense = attention(tokens)
    assert torch.equal(output[1], dense[1])
    close(output[:1], attend(attention, tokens[:1], subsample(tokens[:1], 13, 9, 2, offset=OFFSETS[1])))
    assert not torch.equal(output[0], dense[0])


def test_without_at_steps_are_counted(diffusers_unet):
    """The timestep may be a number, a scalar tensor or one value per image, positional or by keyword."""
    latent, _, context = inputs(16, 24)
    expected = []
    with patched(diffusers_unet, Settings(factor=2)) as patch, torch.no_grad():
        for step, timestep in enumerate((801, 601, 401)):
            patch.at(step, 5)
            expected.append(diffusers_unet(latent, timestep, context).sample)
    with patched(diffusers_unet, Settings(factor=2)), torch.no_grad():
        outputs = [
            diffusers_unet(latent, 801, context).sample,
            diffusers_unet(latent, timestep=torch.tensor(601), encoder_hidden_states=context).sample,
            diffusers_unet(sample=latent, timestep=torch.tensor([401]), encoder_hidden_states=context).sample,
        ]
    for output, wanted in zip(outputs, expected, strict=True):
        assert torch.equal(output, wanted)
