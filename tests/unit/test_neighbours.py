"""The patch together with the real tomesd and with other changes of projections, in either order.

Nothing breaks, and blocks that ToDo cannot downsample are left to the other extension."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager

import pytest
import tomesd
import torch
from torch import nn

from tests.unit.plain_attention import OFFSETS, replace_attention
from tests.unit.small_models import SD1_BLOCKS, WebUIModel, assert_no_hooks, diffusers_unet, inputs, run
from todo import Settings, apply_patch, patched, remove_patch

TOME = {"ratio": 0.5, "use_rand": False}


@pytest.fixture
def model(ldm_unet) -> WebUIModel:
    model = WebUIModel(ldm_unet)
    yield model
    remove_patch(model)
    tomesd.remove_patch(model)
    for module in model.modules():
        for leftover in ("_tome_info",):
            vars(module).pop(leftover, None)


def alone(model: nn.Module, given, **tome) -> torch.Tensor:
    """The output with tomesd only."""
    tomesd.apply_patch(model, **{**TOME, **tome})
    output = run(model.model.diffusion_model, given)
    tomesd.remove_patch(model)
    return output


def apply_both(model: nn.Module, settings: Settings, first: str, **tome):
    if first == "tomesd":
        tomesd.apply_patch(model, **{**TOME, **tome})
        return apply_patch(model, settings)
    patch = apply_patch(model, settings)
    tomesd.apply_patch(model, **{**TOME, **tome})
    return patch


orders = pytest.mark.parametrize("first", ["tomesd", "todo"])


@orders
@pytest.mark.parametrize("removed", ["tomesd", "todo"])
@pytest.mark.parametrize("grid", [(16, 24), (24, 40)])
def test_merged_tokens_are_left_whole(model, first, removed, grid):
    unet = model.model.diffusion_model
    given = inputs(*grid)
    plain = run(unet, given)
    merged = alone(model, given)
    assert (merged - plain).abs().max() > 1e-2
    patch = apply_both(model, Settings(factor=2), first)
    assert torch.equal(run(unet, given), merged)
    for row in patch.report():
        assert (row.calls, row.downsampled, row.kept) == (1, 0, row.tokens)
        ((reason, count),) = row.skips.items()
        assert "merged" in reason
        assert count == 1
    for name in ("tomesd", "todo") if removed == "tomesd" else ("todo", "tomesd"):
        tomesd.remove_patch(model) if name == "tomesd" else remove_patch(model)
    assert torch.equal(run(unet, given), plain)
    assert_no_hooks(unet)


@orders
def test_levels_without_merging_are_downsampled(model, first):
    unet = model.model.diffusion_model
    given = inputs(16, 24)
    settings = Settings(factor=2, deep_factor=2, max_downsample=2)
    patch = apply_both(model, settings, first)
    patch.at(1, 20)
    output = run(unet, given)
    assert {(row.level, row.downsampled) for row in patch.report()} == {(1, 0), (2, 1)}
    remove_patch(model)
    tomesd.remove_patch(model)
    try:
        for path in SD1_BLOCKS[2]:
            replace_attention(unet, path, 8, 12, 2, offset=OFFSETS[1])
        torch.testing.assert_close(output, alone(model, given), rtol=1e-4, atol=1e-4)
    finally:
        for path in SD1_BLOCKS[2]:
            del unet.get_submodule(path).transformer_blocks[0].attn1.forward


@orders
@pytest.mark.parametrize("merge", [{"merge_attn": False, "merge_mlp": True}, {"merge_attn": False}])
def test_merging_outside_self_attention_does_not_prevent_downsampling(model, first, merge):
    patch = apply_both(model, Settings(factor=2), first, **merge)
    output = run(model.model.diffusion_model, inputs(16, 24))
    assert output.isfinite().all()
    assert all(row.downsampled == 1 for row in patch.report())


@orders
@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.33, 0.75])
@pytest.mark.parametrize("batch", [1, 2])
def test_any_ratio(model, first, ratio, batch):
    unet = model.model.diffusion_model
    given = inputs(16, 16, batch)
    merged = alone(model, given, ratio=ratio)
    patch = apply_both(model, Settings(factor=2), first, ratio=ratio)
    output = run(unet, given)
    on = all(row.downsampled == 1 for row in patch.report())
    assert on is (ratio == 0)
    assert torch.equal(output, merged) is not on


@orders
def test_removing_one_leaves_the_other(model, first):
    unet = model.model.diffusion_model
    given = inputs(16, 24)
    settings = Settings(factor=2, phase="fixed")
    merged = alone(model, given)
    apply_patch(model, settings)
    downsampled = run(unet, given)
    remove_patch(model)
    apply_both(model, settings, first)
    tomesd.remove_patch(model)
    assert torch.equal(run(unet, given), downsampled)
    tomesd.apply_patch(model, **TOME)
    remove_patch(model)
    assert torch.equal(run(unet, given), merged)


@orders
def test_on_diffusers(first):
    unet = diffusers_unet()
    given = inputs(16, 24)
    plain = run(unet, given)
    tomesd.apply_patch(unet, **TOME)
    merged = run(unet, given)
    tomesd.remove_patch(unet)
    patch = apply_both(unet, Settings(factor=2), first)
    assert torch.equal(run(unet, given), merged)
    assert all(row.skips and not row.downsampled for row in patch.report())
    remove_patch(unet)
    tomesd.remove_patch(unet)
    assert torch.equal(run(unet, given), plain)


# A stand-in for ControlNet-LLLite as sd-webui-controlnet applies it (scripts/controlnet_lllite.py:189-230 of 56cec5b):
# it replaces the forward of a projection to add something to each token of the whole grid.


@contextmanager
def lllite(unet: nn.Module, paths: list[str]):
    torch.manual_seed(5)
    projections = []
    for path in paths:
        attention = unet.get_submodule(path).transformer_blocks[0].attn1
        for projection in (attention.to_q, attention.to_k, attention.to_v):
            each_token = torch.randn(1, 16 * 24, projection.in_features)
            inner = projection.forward
            projection.forward = lambda x, inner=inner, added=each_token: inner(x + added)
            projections.append((projection, inner))
    yield
    for projection, inner in projections:
        projection.forward = inner


@pytest.mark.parametrize("first", ["lllite", "todo"])
def test_projections_that_add_to_each_token_stay_whole(ldm_unet, first):
    given = inputs(16, 24)
    covered, *free = SD1_BLOCKS[1]
    settings = Settings(factor=2, phase="fixed")
    with lllite(ldm_unet, [covered]):
        for path in free:
            replace_attention(ldm_unet, path, 16, 24, 2)
        expected = run(ldm_unet, given)
        for path in free:
            del ldm_unet.get_submodule(path).transformer_blocks[0].attn1.forward
    with ExitStack() as both:
        if first == "lllite":
            both.enter_context(lllite(ldm_unet, [covered]))
        patch = both.enter_context(patched(ldm_unet, settings))
        if first == "todo":
            both.enter_context(lllite(ldm_unet, [covered]))
        torch.testing.assert_close(run(ldm_unet, given), expected, rtol=1e-4, atol=1e-4)
        rows = {row.name: row for row in patch.report()}
    left = rows.pop(f"{covered}.transformer_blocks.0")
    assert left.downsampled == 0
    assert "replaced by another extension" in next(iter(left.skips))
    assert all(row.downsampled == 1 for row in rows.values())
    with patched(ldm_unet, settings) as patch:
        run(ldm_unet, given)
        assert all(row.downsampled == 1 for row in patch.report()), "LLLite has been removed"
    for module in ldm_unet.modules():
        vars(module).pop("forward", None)


def test_layerwise_casting_does_not_prevent_downsampling():
    """diffusers replaces the forward of each projection and sets a mark on it."""
    unet = diffusers_unet()
    if not hasattr(unet, "enable_layerwise_casting"):
        pytest.skip("this diffusers has no layerwise casting; it came with 0.32")
    unet.enable_layerwise_casting(storage_dtype=torch.bfloat16, compute_dtype=torch.float32)
    with patched(unet, Settings(factor=2)) as patch:
        run(unet, inputs(16, 24))
        assert all(row.downsampled == 1 for row in patch.report())


def test_offloading_does_not_prevent_downsampling(ldm_unet):
    """A stand-in for accelerate's offloading, which replaces the forward of every module and sets a mark on it."""
    given = inputs(16, 24)
    settings = Settings(factor=2)
    with patched(ldm_unet, settings):
        expected = run(ldm_unet, given)
    offloaded = [module for module in ldm_unet.modules() if isinstance(module, nn.Linear)]
    for module in offloaded:
        module._hf_hook, module.forward = object(), module.forward
    with patched(ldm_unet, settings):
        assert torch.equal(run(ldm_unet, given), expected)
    for module in offloaded:
        del module._hf_hook, module.forward
