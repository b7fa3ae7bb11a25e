"""The patch together with torch.compile, in either order: it has the same effect as without compilation."""

from __future__ import annotations

import copy
import logging
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from diffusers import Transformer2DModel
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import nn

from tests.unit.plain_attention import FINER_OFFSETS, replace_attention
from tests.unit.small_models import (
    CONTEXT,
    diffusers_unet,
    hook_counts,
    inputs,
    ldm_unet,
    level_inputs,
    randomize_zero_weights,
    run,
)
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
    torch._dynamo.utils.counters.clear()
    torch.manual_seed(3)
    monkeypatch.setattr(logging.getLogger("torch.__trace"), "disabled", True)  # pytest would collect its every line
    option = torch._dynamo.config._config["skip_nnmodule_hook_guards"]
    if hasattr(option, "default"):
        monkeypatch.setattr(option, "default", True)
    with torch._dynamo.config.patch(skip_nnmodule_hook_guards=True):  # as in a new process
        yield randomize_zero_weights(OneLevel())
    torch.compiler.reset()


def around(model, backend="eager"):
    return torch.compile(model, backend=backend)


def in_place(model, backend="eager"):
    model.compile(backend=backend)
    return model


def its_forward(model, backend="eager"):
    model.forward = torch.compile(model.forward, backend=backend)
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
    dense in turn, at one size after the other. Another round in other threads needs no compilation."""
    if is_broken:
        break_graph(model)
    grids = (GRID, (10, 14))
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

    def again() -> int:
        for grid in grids:
            with ThreadPoolExecutor(1) as thread:  # as a WebUI does with each request
                thread.submit(check, grid).result()
        return compilations()

    assert again() == again()


def test_compiled_while_the_patch_is_on(model):
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


# --- whole UNets


class Graphs:
    """A backend that runs graphs as they are, and counts them and their operations."""

    def __init__(self) -> None:
        self.compiled = self.operations = 0

    def __call__(self, graph, inputs):
        self.compiled += 1
        operations = sum(node.op.startswith("call_") for node in graph.graph.nodes)

        def counted(*args):
            self.operations += operations
            return graph(*args)

        return counted

    def of(self, call) -> tuple[torch.Tensor, int, int]:
        """The result of a call, how many graphs it compiles, and how many operations it runs in graphs."""
        compiled, ran = self.compiled, self.operations
        output = call()
        return output, self.compiled - compiled, self.operations - ran


# As small as a layout can be: compiling is slow.


def sd1_unet() -> nn.Module:
    blocks = {"down_block_types": ("CrossAttnDownBlock2D",), "up_block_types": ("CrossAttnUpBlock2D",)}
    return diffusers_unet(block_out_channels=(32,), **blocks)


def sdxl_unet() -> nn.Module:
    blocks = {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    }
    return diffusers_unet(**blocks, transformer_layers_per_block=(1, 2), use_linear_projection=True)


def original_unet() -> nn.Module:
    return ldm_unet(num_res_blocks=1, channel_mult=[1], attention_resolutions=[1])


LAYOUTS = {"diffusers SD1": sd1_unet, "diffusers SDXL": sdxl_unet, "ldm": original_unet}
WHOLE = Settings(factor=2, deep_factor=2, end=0.6)


@pytest.mark.parametrize(
    ("layout", "first"),
    [("diffusers SD1", "patched"), ("diffusers SDXL", "compiled"), ("ldm", "compiled")],
)
def test_a_whole_unet_compiles_as_it_does_dense(model, layout, first):
    """As many graphs, and at least 95 % of the operations run in them. Where it has no break dense, it has none."""
    unet, given = LAYOUTS[layout](), inputs(16, 24)
    dense = run(unet, given)
    compiled = torch.compile(unet, backend=(alone := Graphs()))
    _, of_dense, operations = alone.of(lambda: run(compiled, given))
    compiled = torch.compile(unet, backend=(graphs := Graphs()), fullgraph=of_dense == 1)
    if first == "compiled":
        assert torch.equal(run(compiled, given), dense)
    with patched(unet, WHOLE) as patch:
        for step in range(10):
            patch.at(step, 10)
            expected = run(unet, given)
            patch.at(step, 10)
            output, found, ran = graphs.of(lambda: run(compiled, given))
            assert torch.equal(output, expected)
            assert found == (of_dense if step in (0, 6) else 0), "compiled once acting, and once not"
            assert ran >= 0.95 * operations
            assert torch.equal(output, dense) is (step >= 6)
        assert {(row.calls, row.downsampled) for row in patch.report()} == {(20, 12)}
    assert torch.equal(run(compiled, given), dense)
    with patched(unet, WHOLE) as patch:  # another image needs nothing more
        patch.at(1, 10)
        assert graphs.of(lambda: run(compiled, given))[1] == 0
    assert hook_counts(unet) == {}


def test_two_compilations_for_each_size(model):
    graphs = Graphs()
    compiled = torch.compile(model, backend=graphs, fullgraph=True)
    run(compiled, level_inputs(16, 24))
    for grid in ((16, 24), (24, 16)):
        with patched(model, WHOLE) as patch:
            before = graphs.compiled
            for step in range(10):
                patch.at(step, 10)
                run(compiled, level_inputs(*grid))
            assert graphs.compiled - before == 2
            assert {(row.grid, row.calls, row.downsampled) for row in patch.report()} == {(grid, 10, 6)}


def followed(unet) -> list[torch.Tensor]:
    return [run(unet, inputs(16, 24, timestep=timestep)) for timestep in (999, 800, 600, 400, 200, 1)]


def test_a_patch_that_follows_by_itself_breaks_the_graph_at_most_once(model):
    unet = sd1_unet()
    dense = followed(unet)
    with patched(unet, WHOLE):
        expected = followed(unet)
    graphs = Graphs()
    whole = in_place(unet, graphs)
    with patched(unet, WHOLE) as patch:
        assert all(map(torch.equal, followed(whole), expected))
        assert graphs.compiled == 2
        assert {(row.calls, row.downsampled) for row in patch.report()} == {(6, 3)}
    assert len(torch._dynamo.utils.counters["graph_break"]) <= 1, "for one reason"
    assert all(map(torch.equal, followed(whole), dense))


def test_the_error_under_fullgraph_names_the_way_out(model):
    unet = sd1_unet()
    unet.compile(backend="eager", fullgraph=True)
    with patched(unet, WHOLE) as patch:
        with pytest.raises(torch._dynamo.exc.Unsupported, match=r"patch\.at\(step, steps\) before each step"):
            run(unet, inputs(16, 24))
        patch.at(0, 10)
        run(unet, inputs(16, 24))


def test_a_fixed_phase_needs_not_be_told(model):
    unet = sd1_unet()
    settings = Settings(factor=2, phase="fixed")
    with patched(unet, settings):
        expected = run(unet, inputs(16, 24))
    unet.compile(backend="eager", fullgraph=True)
    with patched(unet, settings):
        for timestep in (900, 500):
            run(unet, inputs(16, 24, timestep=timestep))
        assert torch.equal(run(unet, inputs(16, 24)), expected)


def test_blocks_that_are_compiled_one_by_one_share_their_code(model):
    """diffusers' `compile_repeated_blocks`: all blocks of a width have the same code, whatever their number."""
    unet, graphs = sdxl_unet(), Graphs()
    given = inputs(16, 24)
    blocks = [module for module in unet.modules() if type(module).__name__ == "BasicTransformerBlock"]
    with patched(unet, WHOLE) as patch:
        patch.at(0, 10)
        expected = run(unet, given)
    for block in blocks:
        block.compile(backend=graphs, fullgraph=True)
    run(unet, given)
    torch._dynamo.reset()
    _, of_dense, _ = graphs.of(lambda: run(unet, given))
    with patched(unet, WHOLE) as patch:
        for step in (0, 1, 2):
            patch.at(step, 10)
            _, found, _ = graphs.of(lambda: run(unet, given))
            assert found <= (2 * of_dense if step == 0 else 0)
        patch.at(0, 10)
        assert torch.equal(run(unet, given), expected)
        assert {(row.calls, row.downsampled) for row in patch.report()} == {(4, 4)}


def test_gradients_of_a_compiled_unet_are_dense(model):
    unet = sd1_unet().requires_grad_()
    dense = unet(*inputs(16, 24)).sample
    compiled = torch.compile(unet, backend="eager")
    with patched(unet, WHOLE) as patch:
        patch.at(0, 10)
        assert torch.equal(compiled(*inputs(16, 24)).sample, dense)
        assert {reason for row in patch.report() for reason in row.skips} == {"while gradients are computed"}


@pytest.mark.skipif(RUNS_HOOKS, reason="since torch 2.1 compiled code runs hooks")
def test_what_torch_2_0_compiled_is_reported_as_never_called():
    model = around(randomize_zero_weights(OneLevel()))
    given = level_inputs(*GRID)
    dense = run(model, given)
    with patched(model, Settings(factor=2)) as patch:
        assert torch.equal(run(model, given), dense)
    assert "never called" in why_none(patch.report(), patch.settings)
