"""The state of a call belongs to the call: threads, recomputed forwards, several forwards before a backward, fake
tensors, temporal attention; and hooks only where there is something to do."""

from __future__ import annotations

import sys
import threading

import diffusers
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint

from tests.unit.comparing import close, differs
from tests.unit.plain_attention import replace_attention
from tests.unit.small_models import CONTEXT, diffusers_unet, hook_counts, inputs, ldm_unet, randomize_zero_weights, run
from todo import Settings, apply_patch, patched, remove_patch
from todo.downsample import _on_device

CYCLE = Settings(factor=2)


@pytest.fixture
def quick_switches():
    """Threads change often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("make", [ldm_unet, diffusers_unet])
@pytest.mark.parametrize("settings", [CYCLE, Settings(factor=2, start=0.3, end=0.7)], ids=["cycle", "window"])
def test_two_threads_on_one_model(make, settings, quick_switches):
    """Each samples at a size of its own, and both tell where they are."""
    unet, grids, steps = make(num_res_blocks=1) if make is ldm_unet else make(), [(16, 24), (24, 16)], 12
    given = {grid: inputs(*grid, seed=index) for index, grid in enumerate(grids)}

    def sample(patch, grid) -> list[torch.Tensor]:
        outputs = []
        for step in range(steps):
            patch.at(step, steps)
            outputs.append(run(unet, given[grid]))
        return outputs

    expected = {}
    for grid in grids:
        with patched(unet, settings) as patch:
            expected[grid] = sample(patch, grid)
            downsampled = sum(row.downsampled for row in patch.report())
    found = {}
    with patched(unet, settings) as patch:
        threads = [
            threading.Thread(target=lambda grid=grid: found.update({grid: sample(patch, grid)})) for grid in grids
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(row.downsampled for row in patch.report()) == 2 * downsampled
    for grid in grids:
        assert all(map(torch.equal, found[grid], expected[grid]))
    assert hook_counts(unet) == {}


def test_a_thread_that_says_nothing_follows_the_one_that_does():
    """As where one thread drives sampling and another computes."""
    unet = diffusers_unet()
    with patched(unet, CYCLE) as patch:
        patch.at(1, 4)
        expected = run(unet, inputs(16, 24))
        patch.at(0, 4)
        patch.at(1, 4)
        found = []
        thread = threading.Thread(target=lambda: found.append(run(unet, inputs(16, 24))))
        thread.start()
        thread.join()
    assert torch.equal(found[0], expected)


# --- gradients


def trainable(make, **changes) -> nn.Module:
    return make(**changes).requires_grad_(True).train()


def gradients(unet, patch, calls, recompute=None) -> list[torch.Tensor]:
    """Of the sum of several forwards, each at a size and step of its own, by one backward."""
    unet.zero_grad()
    losses = []
    for step, grid in calls:
        if patch:
            patch.at(step, 8)
        given = tuple(each.requires_grad_() if each.ndim == 4 else each for each in inputs(*grid, seed=step))
        output = recompute(unet, *given) if recompute else unet(*given)
        losses.append((output if isinstance(output, torch.Tensor) else output.sample).square().mean())
    if patch:
        patch.at(7, 8)  # sampling has gone on by the time of the backward
    sum(losses).backward()
    return [parameter.grad.clone() for parameter in unet.parameters() if parameter.grad is not None]


CALLS = [(0, (8, 16)), (1, (16, 8)), (2, (8, 16)), (6, (8, 16))]
WINDOW = Settings(factor=2, end=0.5)


def outer(unet, *given):
    return checkpoint(lambda *each: unet(*each), *given, use_reentrant=False)


def outer_reentrant(unet, *given):
    return checkpoint(lambda *each: unet(*each).sample, *given, use_reentrant=True)


@pytest.mark.parametrize("settings", [CYCLE, WINDOW], ids=["cycle", "window"])
@pytest.mark.parametrize("how", ["ldm", "diffusers", "outer", "outer reentrant"])
def test_what_is_computed_again_is_what_was_computed(settings, how):
    """Gradients with checkpointing equal those without: several sizes and steps before one backward."""
    make, changes = (ldm_unet, {"num_res_blocks": 1}) if how == "ldm" else (diffusers_unet, {})
    plain = trainable(make, **changes)
    again = trainable(make, **changes, **({"use_checkpoint": True} if how == "ldm" else {}))
    again.load_state_dict(plain.state_dict())
    if how == "diffusers":
        again.enable_gradient_checkpointing()
    recompute = {"outer": outer, "outer reentrant": outer_reentrant}.get(how)
    dense = gradients(plain, None, CALLS)
    with patched(plain, settings) as patch:
        expected = gradients(plain, patch, CALLS)
        calls = [(row.calls, row.downsampled) for row in patch.report()]
    with patched(again, settings) as patch:
        found = gradients(again, patch, CALLS, recompute)
        assert [(row.calls, row.downsampled) for row in patch.report()] == calls
    assert any(not torch.allclose(one, other, rtol=1e-2) for one, other in zip(expected, dense, strict=True))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


# --- fake tensors


def test_fake_tensors_leave_nothing_behind():
    unet = diffusers_unet()
    given = inputs(16, 24)
    with patched(unet, CYCLE) as patch:
        patch.at(1, 4)
        expected = run(unet, given)
    with patched(unet, CYCLE) as patch:
        patch.at(1, 4)
        with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.no_grad():
            fake = unet(*(mode.from_tensor(each) for each in given)).sample
        assert fake.shape == expected.shape
        assert _on_device.cache_info().currsize == 0
        assert torch.equal(run(unet, given), expected)


def test_a_first_phase_under_fake_tensors():
    """The order of a cell's offsets is computed from numbers, which fake tensors lack."""
    from todo.downsample import phase_order

    phase_order.cache_clear()
    unet = diffusers_unet()
    with patched(unet, Settings(factor=3)), FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.no_grad():
        unet(*(mode.from_tensor(each) for each in inputs(16, 24)))
    assert phase_order(3)[0] == (0, 0)
    assert all(isinstance(side, int) for offset in phase_order(3) for side in offset)


def test_a_traced_graph_computes_the_same():
    unet = diffusers_unet()
    given = inputs(16, 24)
    with patched(unet, Settings(factor=2, phase="fixed")), torch.no_grad():
        expected = run(unet, given)
        traced = make_fx(lambda *each: unet(*each).sample)(*given)
    close(traced(*given), expected)
    differs(run(unet, given), expected)


# --- video


@pytest.mark.parametrize("frames", [3, 16])
@pytest.mark.parametrize("size", [(16, 16), (8, 8)])
def test_temporal_attention_is_none_of_ours(frames, size):
    """AnimateDiff on SDXL: with 16 frames, a grid of 4 by 4 has as many positions as there are frames."""
    torch.manual_seed(2)
    unet = randomize_zero_weights(
        diffusers.UNetMotionModel(
            sample_size=16, block_out_channels=(32, 64, 64), norm_num_groups=8, cross_attention_dim=CONTEXT,
            down_block_types=("DownBlockMotion", "CrossAttnDownBlockMotion", "CrossAttnDownBlockMotion"),
            up_block_types=("CrossAttnUpBlockMotion", "CrossAttnUpBlockMotion", "UpBlockMotion"),
            layers_per_block=1, num_attention_heads=2, motion_num_attention_heads=2, use_motion_mid_block=False,
            transformer_layers_per_block=(1, 1, 1),
        )
    )  # fmt: skip
    latent = torch.randn(1, 4, frames, *size)
    text = torch.randn(1, 7, CONTEXT).expand(frames, -1, -1)

    def output() -> torch.Tensor:
        with torch.no_grad():
            return unet(latent, torch.tensor([500.0]), text).sample

    dense = output()
    with patched(unet, Settings(factor=2, phase="fixed")) as patch:
        found = output()
        rows = patch.report()
    assert {(row.level, row.grid) for row in rows} == {(1, (size[0] // 2, size[1] // 2))}
    assert all(row.downsampled == row.calls == 1 for row in rows)
    assert all("motion" not in row.name for row in rows)
    differs(found, dense)
    for path in {row.name.partition(".transformer_blocks")[0] for row in rows}:
        replace_attention(unet, path, size[0] // 2, size[1] // 2, 2)
    close(output(), found)


# --- hooks only where there is something to do


def hooked(unet: nn.Module) -> set[str]:
    """The modules with hooks, by the last part of their names."""
    return {
        name.rpartition(".")[2] if "attn1" in name else ("transformer" if name else "unet")
        for name, module in unet.named_modules()
        if module._forward_pre_hooks
    }


@pytest.fixture
def nothing_compiled(monkeypatch):
    """Other tests may have compiled something in this process, and hooks then stay."""
    monkeypatch.setattr("todo.network.has_compiled", lambda: False)


@pytest.mark.parametrize("make", [ldm_unet, diffusers_unet])
def test_an_idle_network_has_one_hook(make, nothing_compiled):
    unet = make()
    patch = apply_patch(unet, Settings(factor=2, start=0.5))
    patch.at(0, 10)
    dense = run(unet, inputs(16, 24))
    assert hooked(unet) == {"unet"}, "outside the window"
    patch.at(5, 10)
    differs(run(unet, inputs(16, 24)), dense)
    assert hooked(unet) == {"unet", "transformer", "to_q", "to_k", "to_v"}
    patch.at(0, 10)
    assert torch.equal(run(unet, inputs(16, 24)), dense)
    assert hooked(unet) == {"unet"}
    remove_patch(unet)
    with patched(unet, Settings(grid=16)) as patch:
        assert torch.equal(run(unet, inputs(16, 16)), run(unet, inputs(16, 16)))
        assert hooked(unet) == {"unet"}, "a size without effect"
        assert {reason for row in patch.report() for reason in row.skips} == {"at this size"}
        run(unet, inputs(32, 16))
        assert hooked(unet) == {"unet", "transformer", "to_q", "to_k", "to_v"}
    assert hook_counts(unet) == {}


def test_a_level_without_anything_to_do_has_no_hook(nothing_compiled):
    unet = ldm_unet()
    with patched(unet, Settings(factor=2, deep_factor=1.001, max_downsample=2)):
        run(unet, inputs(16, 24))
        assert not any("attn1" in name and ("blocks.4." in name or "blocks.5." in name) for name in hook_counts(unet))


def test_calls_of_ours_are_few(nothing_compiled):
    """Per UNet call that acts: one for the UNet, one for each transformer, three for each block."""
    unet = diffusers_unet(transformer_layers_per_block=(3, 1))
    with patched(unet, CYCLE) as patch:
        patch.at(0, 4)
        run(unet, inputs(16, 24))
        patch.at(0, 4)
        entered = []

        def watch(frame, event, argument):
            if event == "call" and frame.f_code.co_name == "__call__" and frame.f_code.co_filename.endswith("hook.py"):
                entered.append(frame)

        sys.setprofile(watch)
        run(unet, inputs(16, 24))
        sys.setprofile(None)
    transformers, blocks = 3, 9
    assert len(entered) == 1 + transformers + 3 * blocks
