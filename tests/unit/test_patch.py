"""The patch on the real ldm, compared with the plain reference of attention over a subsampled grid."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from einops import rearrange
from plain_attention import OFFSETS, attend, project, replace_attention, subsample
from small_models import (
    SD1_BLOCKS,
    WebUIModel,
    assert_no_hooks,
    hook_counts,
    inputs,
    level_inputs,
    one_level,
    run,
)
from small_models import (
    ldm_unet as make_ldm_unet,
)

import todo
from todo import Settings, apply_patch, patched, remove_patch
from todo.downsample import _indices

FIXED = Settings(factor=2, phase="fixed")
METHODS = ("nearest", "nearest-exact", "bilinear", "area")
GATHERS = METHODS[:2]
SMALL = [(13, 9), (16, 24)]
LARGE = [(65, 97), (64, 125)]


@pytest.fixture(scope="module")
def level():
    return one_level()


@pytest.fixture
def whole_precision(monkeypatch):
    """Keeps ldm from computing scores in float32, which on the CPU would need float32 values, too."""
    monkeypatch.setattr("ldm.modules.attention._ATTN_PRECISION", "same")


def close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    tolerance = 3e-2 if actual.dtype == torch.bfloat16 else 1e-4
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def differs(actual: torch.Tensor, other: torch.Tensor) -> None:
    assert actual.shape == other.shape
    assert (actual - other).abs().max() > 1e-2


class RecordedCalls:
    """Records the input and output of each call of an attention module."""

    def __init__(self, attention: torch.nn.Module):
        self.calls: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._handle = attention.register_forward_hook(
            lambda _, args, output: self.calls.append((args[0].detach().clone(), output.detach().clone()))
        )

    def __enter__(self) -> RecordedCalls:
        return self

    def __exit__(self, *error) -> None:
        self._handle.remove()


def attention_calls(model, given) -> tuple[torch.Tensor, torch.Tensor]:
    with RecordedCalls(model.attention) as recorded:
        run(model, given)
    (call,) = recorded.calls
    return call


def check_one_call(model, grid, batch, method, phase, step) -> None:
    given = tuple(part.to(next(model.parameters()).dtype) for part in level_inputs(*grid, batch=batch))
    with patched(model, Settings(factor=2, method=method, phase=phase)) as patch:
        patch.at(step=step, steps=20)
        tokens, output = attention_calls(model, given)
    offset = OFFSETS[step % 4] if phase == "cycle" else None
    close(output, attend(model.attention, tokens, subsample(tokens, *grid, 2, method, offset)))
    if tokens.dtype == torch.float32 and grid in SMALL:
        differs(output, attend(model.attention, tokens, tokens))


@pytest.mark.parametrize("grid", SMALL)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("phase", "step"), [("fixed", 0), ("fixed", 5), *(("cycle", step) for step in range(6))])
def test_one_call_of_self_attention(level, grid, batch, method, phase, step):
    check_one_call(level, grid, batch, method, phase, step)


@pytest.mark.parametrize(("grid", "batch"), [(LARGE[0], 1), (LARGE[0], 3), (LARGE[1], 1)])
@pytest.mark.parametrize(("phase", "step"), [("fixed", 1), ("cycle", 1)])
def test_one_call_of_self_attention_on_larger_grids(level, grid, batch, phase, step):
    check_one_call(level, grid, batch, "nearest", phase, step)


@pytest.mark.parametrize("grid", [*SMALL, LARGE[0]])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("phase", "step"), [("fixed", 1), ("cycle", 1)])
def test_one_call_in_bfloat16(whole_precision, grid, method, phase, step):
    check_one_call(one_level().bfloat16(), grid, 1, method, phase, step)


@pytest.mark.parametrize("grid", SMALL)
def test_a_transformer_of_several_blocks(grid):
    model = one_level(depth=3)
    reference = copy.deepcopy(model)
    replace_attention(reference, "input_blocks.0.0", *grid, 2)
    given = level_inputs(*grid, batch=2)
    dense = run(model, given)
    with patched(model, FIXED) as patch:
        close(run(model, given), run(reference, given))
        differs(run(model, given), dense)
        assert len(patch.report()) == 3


def reference_unet(unet, grid, factors: dict[int, float], method="nearest", offset=None):
    """A copy of the UNet with the plain reference at each level in `factors`."""
    reference = copy.deepcopy(unet)
    for resolution, factor in factors.items():
        for path in SD1_BLOCKS[resolution]:
            sides = [side // resolution for side in grid]
            replace_attention(reference, path, *sides, factor, method, offset)
    return reference


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("method", METHODS)
def test_the_whole_unet(ldm_unet, batch, method):
    given = inputs(16, 24, batch)
    dense = run(ldm_unet, given)
    close(dense, run(reference_unet(ldm_unet, (16, 24), {1: 1}), given))
    with patched(ldm_unet, Settings(factor=2, method=method)) as patch:
        for step in (0, 1, 6):
            patch.at(step, 20)
            offset = OFFSETS[step % 4] if method in GATHERS else None
            expected = run(reference_unet(ldm_unet, (16, 24), {1: 2}, method, offset), given)
            output = run(ldm_unet, given)
            close(output, expected)
            differs(output, dense)


@pytest.mark.parametrize("grid", [(8, 8), (24, 8), (40, 16)])
@pytest.mark.parametrize("factor", [2, 3, 4, 1.5])
def test_the_whole_unet_at_other_sizes_and_factors(ldm_unet, grid, factor):
    given = inputs(*grid)
    with patched(ldm_unet, Settings(factor=factor, phase="fixed")):
        output = run(ldm_unet, given)
    close(output, run(reference_unet(ldm_unet, grid, {1: factor}), given))


def test_auto_keeps_the_grid(ldm_unet):
    given = inputs(24, 48)
    with patched(ldm_unet, Settings(grid=16, phase="fixed")) as patch:
        output = run(ldm_unet, given)
        assert {(row.grid, row.kept) for row in patch.report()} == {
            ((24, 48), 8 * 16), ((12, 24), 4 * 8), ((6, 12), 2 * 4),
        }  # fmt: skip
    close(output, run(reference_unet(ldm_unet, (24, 48), {1: 3, 2: 3, 4: 3}), given))


def test_cached_indices_are_freed_with_the_patch(ldm_unet):
    with patched(ldm_unet, Settings(factor=2)):
        run(ldm_unet, inputs(16, 24))
        assert _indices.cache_info().currsize == 1
    assert _indices.cache_info().currsize == 0


def test_auto_has_no_effect_on_small_images(ldm_unet):
    given = inputs(16, 24)
    dense = run(ldm_unet, given)
    with patched(ldm_unet, Settings()) as patch:
        assert torch.equal(run(ldm_unet, given), dense)
        for row in patch.report():
            assert (row.kept, row.downsampled) == (row.tokens, 0)
            assert sum(row.skips.values()) == row.calls == 1


@pytest.mark.parametrize(
    ("reach", "factors"), [(1, {1: 2}), (2, {1: 2, 2: 3}), (4, {1: 2, 2: 3, 4: 3}), (8, {1: 2, 2: 3, 4: 3})]
)
def test_deeper_levels(ldm_unet, reach, factors):
    given = inputs(32, 24)
    with patched(ldm_unet, Settings(factor=2, deep_factor=3, max_downsample=reach, phase="fixed")) as patch:
        output = run(ldm_unet, given)
        listed = {row.name.split(".transformer_blocks")[0]: row.level for row in patch.report()}
    assert listed == {path: resolution for resolution in factors for path in SD1_BLOCKS[resolution]}
    close(output, run(reference_unet(ldm_unet, (32, 24), factors), given))


def test_only_the_deeper_level(ldm_unet):
    given = inputs(16, 24)
    with patched(ldm_unet, Settings(mode="manual", factor=1, deep_factor=2, max_downsample=2, phase="fixed")):
        output = run(ldm_unet, given)
    differs(output, run(ldm_unet, given))
    close(output, run(reference_unet(ldm_unet, (16, 24), {2: 2}), given))


def test_the_middle_block_is_never_hooked(ldm_unet):
    with patched(ldm_unet, Settings(factor=2, deep_factor=2, max_downsample=8)):
        assert not [name for name in hook_counts(ldm_unet) if name.startswith("middle_block")]


def test_conditional_and_unconditional_calls_apart(ldm_unet):
    given = inputs(16, 24, batch=2)
    halves = [tuple(part[i : i + 1] for part in given) for i in range(2)]
    reference = reference_unet(ldm_unet, (16, 24), {1: 2}, offset=OFFSETS[3])
    with patched(ldm_unet, Settings(factor=2)) as patch:
        patch.at(step=3, steps=20)
        apart = torch.cat([run(ldm_unet, half) for half in halves])
        patch.at(step=3, steps=20)
        together = run(ldm_unet, given)
    close(apart, together)
    close(together, run(reference, given))


def test_the_window_follows_at(ldm_unet):
    given = inputs(16, 24)
    dense = run(ldm_unet, given)
    with patched(ldm_unet, Settings(factor=2, start=0.25, end=0.5)) as patch:
        on = []
        for step in range(20):
            patch.at(step, 20)
            on.append(not torch.equal(run(ldm_unet, given), dense))
    assert on == [5 <= step < 10 for step in range(20)]


@pytest.mark.parametrize(("step", "steps"), [(0, 0), (30, 20), (-1, 20), (5, -1), (20, 20)])
def test_at_clamps_progress(ldm_unet, step, steps):
    with patched(ldm_unet, Settings(factor=2)) as patch:
        patch.at(step=step, steps=steps)
        assert patch.moment.progress == min(max(step / steps, 0), 1) if steps > 0 else patch.moment.progress == 0
        run(ldm_unet, inputs(8, 8))
        assert all(row.downsampled == 1 for row in patch.report())


def test_passes_follow_at(ldm_unet):
    given = inputs(16, 24)
    dense = run(ldm_unet, given)
    with patched(ldm_unet, Settings(factor=2, passes="first", phase="fixed")) as patch:
        patch.at(0, 20)
        differs(run(ldm_unet, given), dense)
        patch.at(0, 20, hires=True)
        assert torch.equal(run(ldm_unet, given), dense)
    with patched(ldm_unet, Settings(factor=2, hires_factor=4, phase="fixed")) as patch:
        patch.at(0, 20, hires=True)
        close(run(ldm_unet, given), run(reference_unet(ldm_unet, (16, 24), {1: 4}), given))


# An explicit context, a mask, and tiles


def test_a_context_of_whole_grids(level):
    grid = (13, 9)
    given = level_inputs(*grid, batch=2)
    tokens, _ = attention_calls(level, given)
    bank = torch.cat([tokens, torch.randn_like(tokens), torch.randn_like(tokens)], dim=1)
    with patched(level, Settings(factor=2)) as patch, torch.no_grad():
        patch.at(1, 20)
        run(level, given)
        output = level.attention(tokens, context=bank)
        positional = level.attention(tokens, bank)
        expected = attend(level.attention, tokens, subsample(bank, *grid, 2, offset=OFFSETS[1]))
        close(output, expected)
        close(positional, expected)
        (row,) = patch.report()
        assert (row.calls, row.downsampled, row.kept) == (3, 3, 7 * 5)


@pytest.mark.parametrize("length", [1, 77, 13 * 9 - 1, 13 * 9 + 1, 2 * 13 * 9 + 5])
def test_a_context_of_other_tokens(level, length):
    grid = (13, 9)
    given = level_inputs(*grid)
    tokens, _ = attention_calls(level, given)
    text = torch.randn(1, length, tokens.shape[2])
    with torch.no_grad():
        dense = level.attention(tokens, context=text)
    with patched(level, FIXED) as patch, torch.no_grad():
        run(level, given)
        assert torch.equal(level.attention(tokens, context=text), dense)
        (row,) = patch.report()
        assert (row.calls, row.downsampled) == (2, 1)
        ((reason, count),) = row.skips.items()
        assert count == 1
        assert "multiple" in reason


def test_a_mask(level):
    grid = (13, 9)
    given = level_inputs(*grid, batch=2)
    tokens, _ = attention_calls(level, given)
    mask = torch.rand(2, 13 * 9) > 0.3
    with torch.no_grad():
        dense, unmasked = level.attention(tokens, mask=mask), level.attention(tokens)
    differs(dense, unmasked)
    with patched(level, FIXED) as patch, torch.no_grad():
        run(level, given)
        assert torch.equal(level.attention(tokens, mask=mask), dense)
        assert torch.equal(level.attention(tokens, None, mask), dense)
        differs(level.attention(tokens), unmasked)
        (row,) = patch.report()
        assert (row.calls, row.downsampled) == (4, 2)
        assert [("mask" in reason, count) for reason, count in row.skips.items()] == [(True, 2)]


def tile(forward, rows: int, columns: int, height: int, width: int):
    """Like HyperTile's wrapper: moves tiles into the batch before attention and back afterwards."""

    def tiled(*args, **kwargs):
        sizes = {"nh": rows, "nw": columns, "h": height // rows, "w": width // columns}
        x = rearrange(args[0], "b (nh h nw w) c -> (b nh nw) (h w) c", **sizes)
        out = forward(x, *args[1:], **kwargs)
        out = rearrange(out, "(b nh nw) hw c -> b nh nw hw c", nh=rows, nw=columns)
        return rearrange(out, "b nh nw (h w) c -> b (nh h nw w) c", h=height // rows, w=width // columns)

    return tiled


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("batch", [1, 2])
def test_tiles(level, before, batch):
    grid = (16, 24)
    given = level_inputs(*grid, batch=batch)
    plain = run(level, given)
    level.attention.forward = tile(level.attention.forward, 2, 3, *grid)
    try:
        tiled = run(level, given)
        differs(tiled, plain)
        if not before:
            del level.attention.forward
        with patched(level, FIXED) as patch:
            if not before:
                level.attention.forward = tile(level.attention.forward, 2, 3, *grid)
            assert torch.equal(run(level, given), tiled)
            (row,) = patch.report()
            assert (row.calls, row.downsampled) == (1, 0)
            (reason,) = row.skips
            assert "tile" in reason
        assert torch.equal(run(level, given), tiled)
    finally:
        del level.attention.forward
    assert torch.equal(run(level, given), plain)


def test_tiled_queries_alone(level):
    grid = (16, 24)
    given = level_inputs(*grid)
    attention = level.attention
    sizes = {"nh": 2, "nw": 2, "h": 8, "w": 12}

    def forward(x, context=None, mask=None):
        def cut(tokens):
            return rearrange(tokens, "b (nh h nw w) c -> (b nh nw) (h w) c", **sizes)

        q, k, v = attention.to_q(cut(x)), cut(attention.to_k(x)), cut(attention.to_v(x))
        out = (q @ k.transpose(1, 2) * attention.scale).softmax(dim=-1) @ v
        return attention.to_out(rearrange(out, "(b nh nw) (h w) c -> b (nh h nw w) c", **sizes))

    attention.forward = forward
    try:
        tiled = run(level, given)
        with patched(level, FIXED) as patch:
            assert torch.equal(run(level, given), tiled)
            (row,) = patch.report()
            assert row.downsampled == 0
            assert "batch" in next(iter(row.skips))
    finally:
        del attention.forward


# Keys and values


@pytest.fixture
def hooked(level):
    """A patched attention module whose grid is known, its patch, tokens for its projections, and the reference."""
    grid = (13, 9)
    given = level_inputs(*grid)
    tokens, _ = attention_calls(level, given)
    with patched(level, FIXED) as patch, torch.no_grad():
        run(level, given)
        yield level.attention, patch, tokens, lambda whole: subsample(whole, *grid, 2)


def test_values_alone_stay_whole(hooked):
    attention, patch, tokens, fewer = hooked
    attention.to_q(tokens)
    assert torch.equal(attention.to_k(tokens), project(attention.to_k, fewer(tokens)))
    assert torch.equal(attention.to_v(tokens), project(attention.to_v, fewer(tokens)))
    assert torch.equal(attention.to_v(tokens), project(attention.to_v, tokens))
    attention.to_q(tokens)
    assert torch.equal(attention.to_v(tokens), project(attention.to_v, tokens))
    assert patch.report()[0].calls == 2


def test_keys_without_queries_stay_whole(hooked):
    attention, patch, tokens, _ = hooked
    assert torch.equal(attention.to_k(tokens), project(attention.to_k, tokens))
    assert torch.equal(attention.to_v(tokens), project(attention.to_v, tokens))
    assert sum(patch.report()[0].skips.values()) == 1


def test_separate_inputs_for_keys_and_values(hooked):
    """As from a hypernetwork."""
    attention, _, tokens, fewer = hooked
    for_keys, for_values = tokens + 1, tokens * 2
    attention.to_q(tokens)
    assert torch.equal(attention.to_k(for_keys), project(attention.to_k, fewer(for_keys)))
    assert torch.equal(attention.to_v(for_values), project(attention.to_v, fewer(for_values)))


def test_whole_keys_have_whole_values(hooked):
    attention, _, tokens, _ = hooked
    text = torch.randn(1, 77, tokens.shape[2])
    attention.to_q(tokens)
    assert attention.to_k(text).shape[1] == attention.to_v(text).shape[1] == 77
    attention.to_q(tokens)
    assert attention.to_k(text).shape[1] == 77
    assert attention.to_v(tokens).shape[1] == tokens.shape[1]


def test_keys_and_values_share_one_gather(level):
    arrived = []
    with patched(level, FIXED):
        handles = [
            projection.register_forward_pre_hook(lambda _, args: arrived.append(args[0]))
            for projection in (level.attention.to_k, level.attention.to_v)
        ]
        run(level, level_inputs(13, 9))
        for handle in handles:
            handle.remove()
    keys, values = arrived
    assert keys is values
    assert keys.shape[1] == 7 * 5


def test_nothing_is_held_between_calls(level):
    """The gathered tokens are freed after each call. Between calls, a patch costs no memory."""
    import gc
    import weakref

    held = []
    with patched(level, FIXED):
        handle = level.attention.to_v.register_forward_pre_hook(lambda _, args: held.append(weakref.ref(args[0])))
        run(level, level_inputs(13, 9))
        handle.remove()
        gc.collect()
        assert held[0]() is None


# Applying and removing


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
    remove_patch(copied := copy.deepcopy(unet))
    assert_no_hooks(copied)
    return reference_unet(copied, (16, 24), {1: 2})


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


# The report


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


# A patch whose `at` is never called

CYCLE = Settings(factor=2)


def sample(unet, timesteps, grid=(16, 24), seed=7) -> list[torch.Tensor]:
    return [run(unet, inputs(*grid, timestep=timestep, seed=seed)) for timestep in timesteps]


def sample_with_at(unet, settings, steps: list[tuple[float, int, int]]) -> list[torch.Tensor]:
    """The outputs at (timestep, step, steps) of a patch whose `at` is called before each step."""
    with patched(unet, settings) as patch:
        outputs = []
        for timestep, step, of in steps:
            patch.at(step, of)
            outputs += sample(unet, [timestep])
    return outputs


def equal(ones: list[torch.Tensor], others: list[torch.Tensor]) -> None:
    assert len(ones) == len(others)
    for step, (one, other) in enumerate(zip(ones, others, strict=True)):
        assert torch.equal(one, other), f"call {step}"


def test_without_at_steps_are_counted_by_the_timestep(ldm_unet):
    timesteps = [981, 741, 501, 261, 21]
    expected = sample_with_at(ldm_unet, CYCLE, [(timestep, step, 5) for step, timestep in enumerate(timesteps)])
    with patched(ldm_unet, CYCLE):
        equal(sample(ldm_unet, timesteps), expected)


def test_without_at_calls_with_the_same_timestep_share_the_phase(ldm_unet):
    timesteps = [981, 981, 741, 741, 741, 501]
    expected = sample_with_at(
        ldm_unet, CYCLE, list(zip(timesteps, [0, 0, 1, 1, 1, 2], itertools.repeat(5), strict=False))
    )
    with patched(ldm_unet, CYCLE):
        equal(sample(ldm_unet, timesteps), expected)


def test_without_at_steps_begin_again_when_the_timestep_rises(ldm_unet):
    timesteps = [981, 741, 501]
    with patched(ldm_unet, CYCLE):
        first = sample(ldm_unet, timesteps)
        equal(sample(ldm_unet, timesteps), first)
    with patched(ldm_unet, CYCLE):
        equal(sample(ldm_unet, timesteps), first)
    assert not torch.equal(*sample_with_at(ldm_unet, CYCLE, [(741, 0, 5), (741, 1, 5)]))


@pytest.mark.parametrize(("timestep", "on"), [(999, False), (751, False), (749, True), (501, True), (499, False)])
def test_without_at_progress_comes_from_the_timestep(ldm_unet, timestep, on):
    (dense,) = sample(ldm_unet, [timestep])
    with patched(ldm_unet, Settings(factor=2, start=0.25, end=0.5, phase="fixed")) as patch:
        (output,) = sample(ldm_unet, [timestep])
        assert patch.moment.progress == pytest.approx(1 - timestep / 1000)
    assert torch.equal(output, dense) is not on


def test_without_at_the_timestep_may_be_a_keyword(ldm_unet):
    expected = sample_with_at(ldm_unet, CYCLE, [(981, 0, 5), (741, 1, 5)])
    with patched(ldm_unet, CYCLE), torch.no_grad():
        latent, _, context = inputs(16, 24)
        outputs = [
            ldm_unet(latent, context=context, timesteps=torch.tensor([float(timestep)])) for timestep in (981, 741)
        ]
    equal(outputs, expected)


def test_without_at_and_without_timesteps(level):
    given = level_inputs(13, 9)
    with patched(level, CYCLE), torch.no_grad():
        assert torch.equal(level(given[0], context=given[2]), run(level, given))


def test_at_ends_the_counting(ldm_unet):
    with patched(ldm_unet, CYCLE) as patch:
        patch.at(2, 5)
        outputs = sample(ldm_unet, [981, 741])
    equal(outputs, sample_with_at(ldm_unet, CYCLE, [(981, 2, 5), (741, 2, 5)]))


def test_the_phase_changes_and_the_cost_stays(ldm_unet):
    given = inputs(16, 24)
    with patched(ldm_unet, CYCLE) as patch:
        outputs = []
        for step in range(5):
            patch.at(step, 20)
            outputs.append(run(ldm_unet, given))
        assert {row.kept for row in patch.report()} == {96}
    for one, other in itertools.combinations(outputs[:4], 2):
        assert not torch.equal(one, other)
    assert torch.equal(outputs[4], outputs[0])
