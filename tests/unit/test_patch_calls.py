"""The state of a call belongs to the call: threads, gradients, fake tensors, temporal attention."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint

from tests.unit.comparing import close, differs
from tests.unit.plain_attention import replace_attention
from tests.unit.small_models import (
    CONTEXT,
    diffusers_unet,
    hook_counts,
    inputs,
    ldm_unet,
    level_inputs,
    motion_unet,
    one_level,
    run,
)
from todo import Settings, patched, remove_patch

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


def test_threads_that_have_ended_leave_only_counts():
    """As of a server that makes each image in a thread of its own."""
    unet = one_level()
    given = level_inputs(8, 8)

    def objects() -> int:
        gc.collect()
        return len(gc.get_objects())

    with patched(unet, CYCLE) as patch:

        def sample() -> None:
            patch.at(0, 4)
            run(unet, given)

        def sample_in_threads(number: int) -> None:
            for _ in range(number):
                thread = threading.Thread(target=sample)
                thread.start()
                thread.join()

        sample_in_threads(2)
        before = objects()
        sample_in_threads(50)
        assert objects() - before < 50
        assert {(row.calls, row.downsampled) for row in patch.report()} == {(52, 52)}


def test_a_failed_call_in_another_thread_leaves_no_tokens():
    unet = one_level()
    held = []

    def fail(module, args):
        held.append(weakref.ref(args[0]))
        raise MemoryError

    with patched(unet, CYCLE), ThreadPoolExecutor(1) as pool:
        handle = unet.attention.to_k.register_forward_pre_hook(fail)
        with pytest.raises(MemoryError):
            pool.submit(run, unet, level_inputs(16, 24)).result()
        handle.remove()
        remove_patch(unet)
        gc.collect()
        assert held[0]() is None, "the thread is still there, but the patch is not"


# --- gradients


def trainable(make, **changes) -> nn.Module:
    return make(**changes).requires_grad_(True).train()


def gradients(unet, patch, recompute=None) -> list[torch.Tensor]:
    """Of the sum of several forwards, each at a size and step of its own, by one backward."""
    unet.zero_grad()
    losses = []
    for step, grid in [(0, (8, 16)), (1, (16, 8)), (2, (8, 16)), (6, (8, 16))]:
        if patch:
            patch.at(step, 8)
        given = tuple(each.requires_grad_() if each.ndim == 4 else each for each in inputs(*grid, seed=step))
        output = recompute(unet, *given) if recompute else unet(*given)
        losses.append((output if isinstance(output, torch.Tensor) else output.sample).square().mean())
    if patch:  # a preview is sampled before the backward
        patch.at(1, 8)
        run(unet, inputs(8, 16))
    sum(losses).backward()
    return [parameter.grad.clone() for parameter in unet.parameters() if parameter.grad is not None]


def outer(unet, *given):
    return checkpoint(lambda *each: unet(*each), *given, use_reentrant=False)


def outer_reentrant(unet, *given):
    return checkpoint(lambda *each: unet(*each).sample, *given, use_reentrant=True)


@pytest.mark.parametrize("how", ["plain", "ldm", "diffusers", "outer", "outer reentrant"])
@pytest.mark.parametrize("ends", ["with the patch", "before the backward"])
def test_gradients_are_those_without_todo(how, ends):
    """Whatever kind of checkpoint computes a call again, and whether or not the patch is still on by then."""
    make, changes = (ldm_unet, {"num_res_blocks": 1, "use_checkpoint": True}) if how == "ldm" else (diffusers_unet, {})
    unet = trainable(make, **changes)
    if how == "diffusers":
        unet.enable_gradient_checkpointing()
    recompute = {"outer": outer, "outer reentrant": outer_reentrant}.get(how)
    expected = gradients(unet, None, recompute)
    with patched(unet, CYCLE) as patch:
        if ends == "with the patch":
            found = gradients(unet, patch, recompute)
        else:
            unet.zero_grad()
            output = unet(*inputs(8, 16))
            patch.remove()
            getattr(output, "sample", output).square().mean().backward()
            found = [parameter.grad.clone() for parameter in unet.parameters() if parameter.grad is not None]
            unet.zero_grad()
            output = unet(*inputs(8, 16))
            getattr(output, "sample", output).square().mean().backward()
            expected = [parameter.grad.clone() for parameter in unet.parameters() if parameter.grad is not None]
        reasons = {reason for row in patch.report() for reason in row.skips}
    assert all(map(torch.equal, found, expected))
    assert reasons == {"while gradients are computed"}


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, nullcontext])
def test_an_image_needs_no_gradients(context):
    """Sampling acts with frozen weights in any mode, and with trainable ones where nothing is recorded."""
    unet = diffusers_unet().requires_grad_(context is torch.no_grad)
    with patched(unet, CYCLE) as patch, context():
        patch.at(0, 4)
        unet(*inputs(16, 24))
        assert {(row.calls, row.downsampled) for row in patch.report()} == {(1, 1)}


@pytest.mark.parametrize("which", ["latent", "text", "one weight"])
def test_whatever_requires_a_gradient_leaves_the_call_whole(which):
    unet = diffusers_unet()
    latent, timestep, text = inputs(16, 24)
    wanted = {"latent": latent, "text": text, "one weight": unet.conv_out.weight}[which].requires_grad_()
    dense = unet(latent, timestep, text).sample
    with patched(unet, CYCLE) as patch:
        patch.at(0, 4)
        assert torch.equal(unet(latent, timestep, encoder_hidden_states=text).sample, dense)
        assert {row.downsampled for row in patch.report()} == {0}
    assert wanted.requires_grad


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
        assert torch.equal(run(unet, given), expected)


def test_a_model_of_fake_tensors():
    """As tools have it that measure a model without its memory. Fake tensors go with no others."""
    unet, given, mode = diffusers_unet(), inputs(16, 24), FakeTensorMode()
    for module in unet.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = torch.nn.Parameter(mode.from_tensor(parameter.detach()))
    given = tuple(mode.from_tensor(each) for each in given)
    with patched(unet, CYCLE) as patch, mode, torch.no_grad():
        unet(*given)
        assert all(row.downsampled == row.calls == 1 for row in patch.report())


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
    unet = motion_unet()
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
