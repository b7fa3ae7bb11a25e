"""Applying and removing the patch, and its report."""

from __future__ import annotations

import copy
import linecache
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

import todo
from tests.unit.comparing import close, differs, reference_unet
from tests.unit.plain_attention import attend
from tests.unit.small_models import (
    SD1_BLOCKS,
    WebUIModel,
    assert_no_hooks,
    hook_counts,
    inputs,
    level_inputs,
    one_level,
    run,
)
from tests.unit.small_models import ldm_unet as make_ldm_unet
from todo import Settings, apply_patch, patched, remove_patch

FIXED = Settings(factor=2, phase="fixed")


def test_removal(ldm_unet):
    given = inputs(16, 24)
    before, attributes = run(ldm_unet, given), set(vars(ldm_unet))
    patch = apply_patch(ldm_unet, Settings(factor=2, deep_factor=2, max_downsample=8))
    assert hook_counts(ldm_unet)
    differs(run(ldm_unet, given), before)
    assert remove_patch(ldm_unet) is True
    assert torch.equal(run(ldm_unet, given), before)
    assert_no_hooks(ldm_unet)
    assert set(vars(ldm_unet)) == attributes
    assert remove_patch(ldm_unet) is False
    patch.remove()
    assert torch.equal(run(ldm_unet, given), before)


def test_removal_by_the_patch(ldm_unet):
    patch = apply_patch(ldm_unet, FIXED)
    patch.remove()
    assert_no_hooks(ldm_unet)
    assert remove_patch(ldm_unet) is False


def test_weights_and_their_names_stay(ldm_unet):
    before = {name: tensor.clone() for name, tensor in ldm_unet.state_dict().items()}
    with patched(ldm_unet, FIXED):
        run(ldm_unet, inputs(16, 24))
        after = ldm_unet.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_other_hooks_stay(ldm_unet):
    called = []
    attention = ldm_unet.input_blocks[1][1].transformer_blocks[0].attn1
    handle = attention.to_k.register_forward_pre_hook(lambda _, args: called.append(args[0].shape[1]))
    with patched(ldm_unet, FIXED):
        run(ldm_unet, inputs(16, 24))
    run(ldm_unet, inputs(16, 24))
    handle.remove()
    assert called == [384, 384]


@pytest.mark.parametrize("wrap", [lambda unet: unet, WebUIModel])
def test_applying_twice_replaces(ldm_unet, wrap):
    given = inputs(16, 24)
    before = run(ldm_unet, given)
    model = wrap(ldm_unet)
    first = apply_patch(model, Settings(factor=4, phase="fixed"))
    counts = hook_counts(ldm_unet)
    second = apply_patch(ldm_unet, FIXED)
    assert hook_counts(ldm_unet) == counts
    first.remove()
    assert hook_counts(ldm_unet) == counts
    close(run(ldm_unet, given), run(_plain(ldm_unet), given))
    assert second.report()[0].calls == 1
    assert first.report()[0].calls == 0
    assert remove_patch(model) is True
    assert remove_patch(model) is False
    assert torch.equal(run(ldm_unet, given), before)


def _plain(unet):
    return reference_unet(unet, (16, 24), {1: 2})


def test_patched_removes_on_an_exception(ldm_unet):
    with pytest.raises(InterruptedError), patched(ldm_unet, FIXED):
        raise InterruptedError
    assert_no_hooks(ldm_unet)


def test_patched_leaves_a_later_patch(ldm_unet):
    with patched(ldm_unet, FIXED):
        later = apply_patch(ldm_unet, Settings(factor=4))
    assert todo.remove_patch(ldm_unet) is True
    later.remove()


def test_an_interrupted_call_does_not_disturb_the_next(level):
    given = level_inputs(13, 9)
    with patched(level, FIXED) as patch:
        expected = run(level, given)
        fail = level.attention.to_v.register_forward_pre_hook(_interrupt)
        with pytest.raises(InterruptedError):
            run(level, given)
        fail.remove()
        assert torch.equal(run(level, given), expected)
        assert patch.report()[0].calls == 3


def _interrupt(module, args):
    raise InterruptedError


def test_gradients_flow_through(level):
    model = copy.deepcopy(level).requires_grad_()
    with patched(model, FIXED):
        with torch.inference_mode():
            model(*level_inputs(13, 9))
        model(*level_inputs(13, 9)).sum().backward()
    for projection in (model.attention.to_q, model.attention.to_k, model.attention.to_v):
        assert projection.weight.grad.abs().sum() > 0


def test_gradient_checkpointing():
    given = inputs(8, 16)
    unet = make_ldm_unet(use_checkpoint=True, num_res_blocks=1)
    plain = make_ldm_unet(num_res_blocks=1)
    plain.load_state_dict(unet.state_dict())
    with patched(unet, FIXED), patched(plain, FIXED):
        close(run(unet, given), run(plain, given))


def test_report_before_any_call(ldm_unet):
    with patched(ldm_unet, Settings(factor=2)) as patch:
        rows = patch.report()
    assert len(rows) == 5
    assert {(row.level, row.grid, row.calls, row.downsampled) for row in rows} == {(1, None, 0, 0)}


def test_report_counts_tokens_calls_and_reasons(ldm_unet):
    with patched(ldm_unet, Settings(factor=2, deep_factor=3, max_downsample=2, end=0.5)) as patch:
        for step in range(4):
            patch.at(step, 4)
            run(ldm_unet, inputs(16, 24))
        rows = {row.name: row for row in patch.report()}
    for resolution, tokens, kept in ((1, 384, 96), (2, 96, 3 * 4)):
        for path in SD1_BLOCKS[resolution]:
            row = rows.pop(f"{path}.transformer_blocks.0")
            assert (row.level, row.grid) == (resolution, (16 // resolution, 24 // resolution))
            assert (row.tokens, row.kept, row.calls, row.downsampled) == (tokens, kept, 4, 2)
            assert list(row.skips.values()) == [2]
    assert rows == {}


def test_report_separates_grid_sizes(ldm_unet):
    with patched(ldm_unet, FIXED) as patch:
        run(ldm_unet, inputs(16, 24))
        run(ldm_unet, inputs(8, 8))
        run(ldm_unet, inputs(8, 8))
        rows = [row for row in patch.report() if row.name.startswith("input_blocks.1.")]
    assert [(row.grid, row.tokens, row.kept, row.calls) for row in rows] == [
        ((16, 24), 384, 96, 1),
        ((8, 8), 64, 16, 2),
    ]


def test_report_of_a_taper_has_the_smallest_number(level):
    with patched(level, Settings(factor=4, taper=True)) as patch:
        for step in range(5):
            patch.at(step, 4)
            run(level, level_inputs(16, 24))
        (row,) = patch.report()
    assert (row.kept, row.calls, row.downsampled) == (4 * 6, 5, 4)


def test_bypassed_projections_are_counted(level):
    given = level_inputs(13, 9)
    attention = level.attention
    with patched(level, FIXED) as patch:
        run(level, given)
        attention.forward = lambda x, **_: attend(attention, x, x)
        try:
            run(level, given)
            run(level, given)
        finally:
            del attention.forward
        rows = patch.report()
    assert sum(row.calls for row in rows) == 3
    assert sum(row.downsampled for row in rows) == 1
    assert sum(count for row in rows for reason, count in row.skips.items() if "bypass" in reason) == 2


def test_projections_bypassed_in_every_call_are_counted(level):
    attention = level.attention
    with patched(level, FIXED) as patch:
        attention.forward = lambda x, **_: attend(attention, x, x)
        run(level, level_inputs(13, 9))
        del attention.forward
        (row,) = patch.report()
    assert (row.calls, row.downsampled) == (1, 0)
    assert "bypass" in next(iter(row.skips))


def interrupted_at(line: int, call) -> bool:
    """Runs a call that Ctrl-C interrupts before its n-th line of the package; whether it came to that.

    The line of a `with` block is traced once more when the block has ended, before its lock is released. Python
    delivers no signal there, because it looks for one only after calls and jumps.
    """
    seen = 0

    def trace(frame, event, argument):
        nonlocal seen
        if "todo" not in Path(frame.f_code.co_filename).parts[-2:-1]:
            return None
        if event != "line" or linecache.getline(frame.f_code.co_filename, frame.f_lineno).lstrip().startswith("with "):
            return trace
        seen += 1
        if seen == line:
            sys.settrace(None)
            raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return False


@pytest.mark.parametrize("before", [False, True], ids=["plain", "patched before"])
def test_an_interrupt_anywhere_leaves_no_hook(before):
    model = one_level()
    line, was_interrupted = 1, True
    while was_interrupted:
        earlier = apply_patch(model, Settings(factor=4)) if before else None
        was_interrupted = interrupted_at(line, lambda: apply_patch(model, FIXED))
        if was_interrupted and not (earlier and earlier.attached):
            assert_no_hooks(model)
        remove_patch(model)
        assert_no_hooks(model)
        line += 3
    assert line > 300, "it came to every third line"
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(apply_patch, model, FIXED).result(timeout=60).attached, "no lock is held"


@pytest.mark.parametrize("failing", ["register_forward_hook", "register_forward_pre_hook"])
def test_an_exception_while_hooks_are_put_on_leaves_none(monkeypatch, failing):
    model, register = one_level(depth=3), getattr(torch.nn.Module, failing)
    for number in range(1 if failing == "register_forward_hook" else 3):
        calls = iter(range(100))

        def fail(module, hook, number=number, calls=calls, **options):
            handle = register(module, hook, **options)
            if next(calls) == number:
                raise MemoryError
            return handle

        monkeypatch.setattr(torch.nn.Module, failing, fail)
        with pytest.raises(MemoryError):
            apply_patch(model, FIXED)
        monkeypatch.undo()
        assert_no_hooks(model)


@pytest.mark.parametrize("settings", [{"factor": 2}, None, 2.0])
def test_settings_of_another_type_are_refused(level, settings):
    with pytest.raises(TypeError, match=r"settings must be todo\.Settings, not "):
        apply_patch(level, settings)
    assert_no_hooks(level)


def test_a_call_that_fails_is_no_bypass(level):
    """As where the device runs out of memory, before the block or within it."""
    with patched(level, FIXED) as patch:
        for module in (level.transformer.proj_in, level.attention.to_out):
            handle = module.register_forward_pre_hook(_interrupt)
            with pytest.raises(InterruptedError):
                run(level, level_inputs(13, 9))
            handle.remove()
        run(level, level_inputs(13, 9))
        assert all(row.skips == {} for row in patch.report())
