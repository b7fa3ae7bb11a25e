"""A model that changes under its patch: projections that are wrapped, replaced, fused and unwrapped; a UNet that is
replaced; copies; wrappers."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from peft import LoraConfig, PeftModel, inject_adapter_in_model
from torch import nn

from tests.unit.comparing import close, differs
from tests.unit.plain_attention import subsample
from tests.unit.small_models import assert_no_hooks, diffusers_unet, hook_counts, inputs, run
from tests.unit.test_diffusers_pipelines import generate, make
from todo import Settings, UnsupportedModelError, apply_patch, patched, remove_patch

FIXED = Settings(factor=2, phase="fixed")
GIVEN = inputs(16, 24)
FINEST = ("down_blocks.0.attentions.0", "up_blocks.1.attentions.0", "up_blocks.1.attentions.1")
LORA = LoraConfig(r=4, target_modules=["to_q", "to_k", "to_v"], init_lora_weights=False)


def finest(unet: nn.Module) -> list[nn.Module]:
    return [unet.get_submodule(path).transformer_blocks[0].attn1 for path in FINEST]


def reference(unet: nn.Module) -> torch.Tensor:
    """The output where the finest level's attention is given the kept tokens by its caller. Its projections, whatever
    they are by now, are called as modules."""
    plain = copy.deepcopy(unet)
    for attention in finest(plain):
        forward = attention.forward
        attention.forward = lambda x, *_, forward=forward, **__: forward(
            x, encoder_hidden_states=subsample(x, 16, 24, 2)
        )
    return run(plain, GIVEN)


class Wrapped(nn.Module):
    """A wrapper around a projection, such as an adapter is."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner
        self.added = nn.Linear(inner.in_features, inner.out_features)

    def forward(self, tokens):
        return self.inner(tokens) + 0.3 * self.added(tokens)


def wrap(unet, name):
    for attention in finest(unet):
        setattr(attention, name, Wrapped(getattr(attention, name)))


def unwrap(unet, name):
    for attention in finest(unet):
        setattr(attention, name, getattr(attention, name).inner)


def replace(unet):
    """Other modules of the same kind, as quantising makes them."""
    for attention in finest(unet):
        for name in ("to_k", "to_v"):
            attention._modules[name] = copy.deepcopy(getattr(attention, name)).requires_grad_(False)
            remove_hooks(attention._modules[name])


def remove_hooks(module: nn.Module) -> None:
    module._forward_pre_hooks.clear()
    module._forward_pre_hooks_with_kwargs.clear()


@pytest.fixture
def unet():
    torch.manual_seed(5)
    made = diffusers_unet()
    yield made
    remove_patch(made)
    assert_no_hooks(made)


CHANGES = {
    "keys wrapped": lambda unet: wrap(unet, "to_k"),
    "values wrapped": lambda unet: wrap(unet, "to_v"),
    "queries wrapped": lambda unet: wrap(unet, "to_q"),
    "LoRA": lambda unet: inject_adapter_in_model(LORA, unet),
    "LoRA by diffusers": lambda unet: unet.add_adapter(LORA),
    "replaced": replace,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("called_before", [True, False])
def test_projections_are_found_again(unet, change, called_before):
    with patched(unet, FIXED) as patch:
        if called_before:
            run(unet, GIVEN)
        torch.manual_seed(8)
        change(unet)
        output = run(unet, GIVEN)
        assert {row.downsampled for row in patch.report()} == {1 + called_before}
    dense = run(unet, GIVEN)
    close(output, reference(unet))
    differs(output, dense)
    assert_no_hooks(unet)


def test_unwrapping(unet):
    wrap(unet, "to_k")
    wrap(unet, "to_v")
    with patched(unet, FIXED) as patch:
        run(unet, GIVEN)
        unwrap(unet, "to_k")
        close(run(unet, GIVEN), reference(unet))
        unwrap(unet, "to_v")
        close(run(unet, GIVEN), reference(unet))
        assert {row.downsampled for row in patch.report()} == {3}


def test_an_adapter_loaded_switched_off_and_unloaded(unet):
    with patched(unet, FIXED):
        before = run(unet, GIVEN)
        torch.manual_seed(8)
        unet.add_adapter(LORA)
        differs(run(unet, GIVEN), before)
        close(run(unet, GIVEN), reference(unet))
        unet.disable_adapters()
        close(run(unet, GIVEN), before)
        unet.enable_adapters()
        unet.delete_adapters("default")
        close(run(unet, GIVEN), before)


def test_fused_and_unfused(unet):
    dense = run(unet, GIVEN)
    with patched(unet, FIXED) as patch:
        before = run(unet, GIVEN)
        unet.fuse_qkv_projections()
        close(run(unet, GIVEN), dense)
        unet.unfuse_qkv_projections()
        close(run(unet, GIVEN), before)
        for row in patch.report():
            assert (row.calls, row.downsampled) == (3, 2)
            assert [("fused" in reason, count) for reason, count in row.skips.items()] == [(True, 1)]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda unet: pickle.loads(pickle.dumps(unet))])
@pytest.mark.parametrize("called_before", [True, False])
def test_a_copy_is_a_plain_model(unet, copied, called_before):
    dense = run(unet, GIVEN)
    with patched(unet, FIXED) as patch:
        if called_before:
            run(unet, GIVEN)
        calls = [row.calls for row in patch.report()]
        other = copied(unet)
        assert torch.equal(run(other, GIVEN), dense)
        assert_no_hooks(other)
        assert [row.calls for row in patch.report()] == calls
        assert remove_patch(other) is False
        differs(run(unet, GIVEN), dense)
        with patched(other, Settings(factor=4, phase="fixed")):
            differs(run(other, GIVEN), run(unet, GIVEN))


def test_a_copy_of_a_compiled_module_is_plain_too(unet):
    """Its hooks are wrapped for the compiler."""
    import torch._dynamo

    with patched(unet, FIXED):
        run(unet, GIVEN)
        other = copy.deepcopy(unet)
    assert torch.equal(run(other, GIVEN), run(unet, GIVEN))
    assert_no_hooks(other)


def test_a_unet_that_a_pipeline_replaces():
    pipeline = make()
    first, dense = pipeline.unet, generate(pipeline)
    apply_patch(pipeline, FIXED)
    pipeline.unet = copy.deepcopy(first)
    assert torch.equal(generate(pipeline), dense), "the new UNet is not patched"
    assert remove_patch(pipeline) is True
    assert_no_hooks(first)
    assert remove_patch(pipeline) is False
    apply_patch(pipeline, FIXED)
    second, pipeline.unet = pipeline.unet, first
    apply_patch(pipeline, FIXED)
    assert_no_hooks(second)
    differs(generate(pipeline), dense)
    remove_patch(pipeline)
    assert_no_hooks(first)


def test_a_patch_within_a_patch(unet):
    """The inner one replaces the outer one for its length."""
    with patched(unet, FIXED) as outer:
        before = run(unet, GIVEN)
        with patched(unet, Settings(factor=4, phase="fixed")) as inner:
            differs(run(unet, GIVEN), before)
            assert (outer.attached, inner.attached) == (False, True)
        assert (outer.attached, inner.attached) == (True, False)
        assert torch.equal(run(unet, GIVEN), before)
        assert {row.calls for row in outer.report() if row.calls} == {1}
    assert_no_hooks(unet)


@pytest.mark.parametrize(
    ("wrapper", "hint"),
    [
        (nn.DataParallel, ".module"),
        (lambda unet: PeftModel(unet, LORA), ".base_model.model"),
    ],
)
def test_wrappers_are_refused_with_a_hint(wrapper, hint):
    wrapped = wrapper(diffusers_unet())
    with pytest.raises(UnsupportedModelError, match=f"wraps a UNet; pass the UNet itself, {hint}$"):
        apply_patch(wrapped, FIXED)
    assert hook_counts(wrapped) == {}
    within = wrapped
    for name in hint.strip(".").split("."):
        within = getattr(within, name)
    with patched(within, FIXED) as patch, torch.no_grad():
        wrapped(*GIVEN)
        assert {row.downsampled for row in patch.report()} == {1}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (Settings(mode="auto", factor=4), "factor=4 has no effect in mode 'auto', only in mode 'manual'"),
        (Settings(mode="manual", grid=32), "grid=32 has no effect in mode 'manual', only in mode 'auto'"),
        (Settings(start=0.5, end=0.5), "start and end are both 0.5, so ToDo is off in every step"),
    ],
)
def test_settings_without_effect_are_warned_of(unet, settings, said):
    with pytest.warns(UserWarning, match=said):
        apply_patch(unet, settings)


def test_settings_with_effect_are_not(unet, recwarn):
    for settings in (Settings(), Settings(factor=3, hires_factor=2), Settings(grid=32, start=0.2, end=0.8)):
        apply_patch(unet, settings)
    assert not [each for each in recwarn if issubclass(each.category, UserWarning)]
