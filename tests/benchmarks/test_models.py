"""The measured UNets have the published architectures, and their attention computes the same as the libraries' own."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch
from ldm.modules.attention import BasicTransformerBlock, CrossAttention

from benchmarks.speed.models import architecture, build_unet, call, inputs
from todo.families import FAMILIES

CPU = torch.device("cpu")
WIDTH = 32


@lru_cache
def _architecture(family: str) -> torch.nn.Module:
    return architecture(family, torch.float16)


@pytest.mark.parametrize(
    ("family", "parameters"), [("sd1", 859_520_964), ("sd2", 865_910_724), ("sdxl", 2_567_463_684)]
)
def test_architectures_are_the_published_ones(family, parameters):
    """Source: the sizes of the published checkpoints' UNets."""
    unet = _architecture(family)
    assert sum(parameter.numel() for parameter in unet.parameters()) == parameters


@pytest.mark.parametrize(
    ("family", "heads"),
    [
        ("sd1", {(320, 8), (640, 8), (1280, 8)}),
        ("sd2", {(320, 5), (640, 10), (1280, 20)}),
        ("sdxl", {(640, 10), (1280, 20)}),
    ],
)
def test_heads_are_the_published_ones(family, heads):
    """The number of parameters does not depend on the number of heads."""
    attentions = [module for name, module in _architecture(family).named_modules() if name.endswith("attn1")]
    assert {(each.to_q.in_features, each.heads) for each in attentions} == heads


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_are_reproducible_and_outputs_finite(family):
    outputs = []
    for _ in range(2):
        unet = build_unet(family, CPU, torch.float32, WIDTH)
        outputs.append(call(unet, inputs(unet, family, (128, 192), 2)))
    assert outputs[0].shape == (2, 4, 24, 16)
    assert torch.isfinite(outputs[0]).all()
    assert 0.1 < outputs[0].std() < 10
    assert torch.equal(*outputs)


@pytest.mark.parametrize("family", FAMILIES)
def test_lower_precision_gives_outputs_of_the_same_scale(family):
    outputs = []
    for dtype in (torch.float32, torch.bfloat16):
        unet = build_unet(family, CPU, dtype, WIDTH)
        outputs.append(call(unet, inputs(unet, family, (128, 128))).float())
    # Weights drawn in bfloat16 have other values, so only the scale can be compared.
    assert torch.isfinite(outputs[1]).all()
    assert outputs[1].std() == pytest.approx(outputs[0].std(), rel=0.5)


def test_attention_computes_the_same_as_ldms_own():
    unet = build_unet("sd1", CPU, torch.float32, WIDTH)
    block = next(module for module in unet.modules() if isinstance(module, BasicTransformerBlock))
    x, context = torch.randn(2, 24, WIDTH), torch.randn(2, 7, FAMILIES["sd1"].context)
    with torch.no_grad():
        for attention, keys in ((block.attn1, None), (block.attn2, context)):
            torch.testing.assert_close(attention(x, context=keys), CrossAttention.forward(attention, x, keys))
