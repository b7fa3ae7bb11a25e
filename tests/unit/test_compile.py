"""The patch together with torch.compile, in either order: it has the same effect as without compilation."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from diffusers import Transformer2DModel
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import nn

from tests.unit.plain_attention import FINER_OFFSETS, replace_attention
from tests.unit.small_models import CONTEXT, hook_counts, level_inputs, randomize_zero_weights, run
from todo import Settings, apply_patch, patched, remove_patch
from todo.report import why_none

GRID = (13, 9)
WINDOW = Settings(factor=2, end=0.5)
RUNS_HOOKS = hasattr(torch, "compiler")
"""Whether torch is 2.1 or newer."""


class OneLevel(nn.Module):
    """A UNet reduced to one transformer of diffusers, because a whole UNet compiles too slowly for a test."""

    def __init__(self):
        super().__init__()
        transformer = Transformer2DModel(2, 16, in_channels=32, norm_num_groups=8, cross_attention_dim=CONTEXT)
        self.down_blocks = nn.ModuleList([nn.Sequential(transformer)])

    def forward(self, x, timesteps=None, context=None):
        for stage in self.down_blocks:
            x = stage[0](x, context, return_dict=False)[0]
        return x


@pytest.fixture
def model(monkeypatch):
    if not RUNS_HOOKS:
        pytest.skip("torch.compile of torch 2.0 runs no hooks, so a compiled model stays dense")
    torch.compiler.reset()
    torch.manual_seed(3)
    option = torch._dynamo.config._config["skip_nnmodule_hook_guards"]
    if hasattr(option, "default"):
        monkeypatch.setattr(option, "default", True)
    with torch._dynamo.config.patch(skip_nnmodule_hook_guards=True):  # as in a new process
        yield randomize_zero_weights(OneLevel())
    torch.compiler.reset()


def around(model):
    return torch.compile(model, backend="eager")


def in_place(model):
    model.compile(backend="eager")
    return model


def its_forward(model):
    model.forward = torch.compile(model.forward, backend="eager")
    return model


def its_blocks(model):
    """Like diffusers' `compile_repeated_blocks`."""
    for block in model.down_blocks[0][0].transformer_blocks:
        block.compile(backend="eager")
    return model


def break_graph(model):
    """Attention breaks the graph, as ComfyUI's does where it asks for the free memory. The network's own forward then
    stays uncompiled, because the break lies in a loop."""

    def attend(attention, *args, **kwargs):
        torch._dynamo.graph_break()
        return AttnProcessor2_0()(attention, *args, **kwargs)

    for block in model.down_blocks[0][0].transformer_blocks:
        block.attn1.set_processor(attend)


def at_each_step(model, given, grid=GRID):
    """The outputs of the first eight steps, computed by the plain reference."""
    outputs = []
    for offset in FINER_OFFSETS:
        copied = copy.deepcopy(model)
        replace_attention(copied, "down_blocks.0.0", *grid, 2, offset=offset)
        outputs.append(run(copied, given))
    return outputs


def check_steps(patch, model, given, dense, expected):
    """Every step uses its own phase, and after the window the model is dense."""
    for step in (0, 1, 3, 4):
        patch.at(step, 20)
        output = run(model, given)
        torch.testing.assert_close(output, expected[step], rtol=1e-4, atol=1e-4)
        assert (output - expected[step + 1]).abs().max() > 1e-3
    patch.at(10, 20)
    assert torch.equal(run(model, given), dense)
    ((calls, downsampled),) = {(row.calls, row.downsampled) for row in patch.report()}
    assert (calls, downsampled) == (5, 4)


def check_removal(model, given, dense):
    assert remove_patch(model) is True
    assert hook_counts(model) == {}
    assert torch.equal(run(model, given), dense)


def test_patched_then_compiled(model):
    given = level_inputs(*GRID)
    dense, expected = run(model, given), at_each_step(model, given)
    patch = apply_patch(model, WINDOW)
    in_place(model)
    check_steps(patch, model, given, dense, expected)
    check_removal(model, given, dense)


@pytest.mark.parametrize("compiled", [around, in_place, its_forward, its_blocks])
def test_compiled_then_patched(model, compiled):
    given = level_inputs(*GRID)
    dense, expected = run(model, given), at_each_step(model, given)
    model = compiled(model)
    assert torch.equal(run(model, given), dense)
    check_steps(apply_patch(model, WINDOW), model, given, dense, expected)
    check_removal(model, given, dense)


def test_patching_again_after_compiling_both_with_and_without_the_patch(model):
    given = level_inputs(*GRID)
    dense, expected = run(model, given), at_each_step(model, given)
    with patched(model, WINDOW) as patch:
        model = around(model)
        check_steps(patch, model, given, dense, expected)
    assert torch.equal(run(model, given), dense)
    with patched(model, WINDOW) as patch:
        check_steps(patch, model, given, dense, expected)
    assert torch.equal(run(model, given), dense)


def compilations() -> int:
    return torch._dynamo.utils.counters["frames"]["total"]


@pytest.mark.parametrize("is_broken", [False, True], ids=["one graph", "pieces"])
def test_a_wrapper_that_is_in_place_only_during_a_call(model, is_broken):
    """As in Forge Neo and ComfyUI, where nothing on the model says that it is compiled. Dense first, then patched and
    dense in turn, at one size after the other. The second round, in other threads, needs no compilation."""
    if is_broken:
        break_graph(model)
    grids = (GRID, (10, 14), (12, 8))
    dense = {grid: run(model, level_inputs(*grid)) for grid in grids}
    expected = {grid: at_each_step(model, level_inputs(*grid), grid) for grid in grids}
    compiled = torch.compile(model, backend="eager")

    def check(grid):
        assert torch.equal(run(compiled, level_inputs(*grid)), dense[grid])
        with patched(model, WINDOW) as patch:
            check_steps(patch, compiled, level_inputs(*grid), dense[grid], expected[grid])
        assert torch.equal(run(compiled, level_inputs(*grid)), dense[grid])

    for grid in grids:
        check(grid)
    compiled_so_far = compilations()
    for grid in grids:
        with ThreadPoolExecutor(1) as thread:  # as a WebUI does with each request
            thread.submit(check, grid).result()
    assert compilations() == compiled_so_far


def test_compiled_after_a_first_call(model):
    """The levels that have nothing to do have no hooks by then."""
    given = level_inputs(*GRID)
    dense, expected = run(model, given), at_each_step(model, given)
    with patched(model, WINDOW) as patch:
        patch.at(15, 20)
        assert torch.equal(run(model, given), dense)
        its_blocks(model)
        assert torch.equal(run(model, given), dense)
        for step in (0, 1):
            patch.at(step, 20)
            torch.testing.assert_close(run(model, given), expected[step], rtol=1e-4, atol=1e-4)
    assert torch.equal(run(model, given), dense)


@pytest.mark.skipif(RUNS_HOOKS, reason="since torch 2.1 compiled code runs hooks")
def test_what_torch_2_0_compiled_is_reported_as_never_called():
    model = around(randomize_zero_weights(OneLevel()))
    given = level_inputs(*GRID)
    dense = run(model, given)
    with patched(model, Settings(factor=2)) as patch:
        assert torch.equal(run(model, given), dense)
    assert "never called" in why_none(patch.report())
