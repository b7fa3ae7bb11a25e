"""The patch on the real ldm, compared with the plain reference of attention over a subsampled grid."""

from __future__ import annotations

import copy
import gc
import weakref

import pytest
import torch

from tests.unit.comparing import attention_calls, close, differs, reference_unet
from tests.unit.plain_attention import FINER_OFFSETS, OFFSETS, attend, replace_attention, subsample
from tests.unit.small_models import SD1_BLOCKS, hook_counts, inputs, level_inputs, one_level, run
from todo import Settings, patched, progress
from todo.downsample import kept_index

FIXED = Settings(factor=2, phase="fixed")
METHODS = ("nearest", "nearest-exact")
SMALL = [(13, 9), (16, 24)]
LARGE = [(65, 97), (64, 125)]


@pytest.fixture
def whole_precision(monkeypatch):
    """Keeps ldm from computing scores in float32, which on the CPU would need float32 values, too."""
    monkeypatch.setattr("ldm.modules.attention._ATTN_PRECISION", "same")


def check_one_call(model, grid, batch, method, phase, step) -> None:
    given = tuple(part.to(next(model.parameters()).dtype) for part in level_inputs(*grid, batch=batch))
    with patched(model, Settings(factor=2, method=method, phase=phase)) as patch:
        patch.at(step=step, steps=20)
        tokens, output = attention_calls(model, given)
    offsets = OFFSETS if all(side % 2 == 0 for side in grid) else FINER_OFFSETS
    offset = offsets[step % len(offsets)] if phase == "cycle" else None
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


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("method", METHODS)
def test_the_whole_unet(ldm_unet, batch, method):
    given = inputs(16, 24, batch)
    dense = run(ldm_unet, given)
    close(dense, run(reference_unet(ldm_unet, (16, 24), {1: 1}), given))
    with patched(ldm_unet, Settings(factor=2, method=method)) as patch:
        for step in (0, 1, 6):
            patch.at(step, 20)
            expected = run(reference_unet(ldm_unet, (16, 24), {1: 2}, method, OFFSETS[step % 4]), given)
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
    """As many as a square of that side has, in another format."""
    given = inputs(24, 96)
    with patched(ldm_unet, Settings(grid=16, phase="fixed")) as patch:
        output = run(ldm_unet, given)
        assert {(row.grid, row.kept) for row in patch.report()} == {
            ((24, 96), 16**2), ((12, 48), 8**2), ((6, 24), 4**2),
        }  # fmt: skip
    close(output, run(reference_unet(ldm_unet, (24, 96), {1: 3, 2: 3, 4: 3}), given))


@pytest.mark.parametrize(("steps", "kept"), [(20, 16**2), (9, 16**2), (8, 22**2), (1, 22**2)])
def test_auto_keeps_a_third_more_per_side_in_few_steps(ldm_unet, steps, kept):
    with patched(ldm_unet, Settings(grid=16)) as patch:
        patch.at(0, steps)
        run(ldm_unet, inputs(48, 48))
        assert patch.report()[0].kept == kept


@pytest.mark.parametrize(
    "settings", [Settings(factor=2), Settings(factor=1.25), Settings(factor=4, taper=True)], ids=["2", "1.25", "taper"]
)
def test_only_the_indices_of_the_present_step_are_held(ldm_unet, settings, monkeypatch):
    """Whatever the ratio, however many steps and sizes were sampled."""
    made = []

    def tracked(*given):
        index = kept_index(*given)
        made.append(weakref.ref(index))
        return index

    monkeypatch.setattr(progress, "kept_index", tracked)
    with patched(ldm_unet, settings) as patch:
        for step in range(12):
            patch.at(step, 12)
            for grid in ((16, 24), (24, 16)):
                run(ldm_unet, inputs(*grid))
            assert sum(index() is not None for index in made) == 2
    del patch
    gc.collect()
    assert all(index() is None for index in made)
    assert len(made) == 24


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
