"""How much of a UNet runs compiled under torch.compile, dense and with ToDo. The command `compile`.

Operations in graphs are counted over a run of ten steps with a moving phase and a step window, with the layouts of
SD1.5 and SDXL and very few channels. How graphs are cut depends neither on weights nor on the size of layers.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from benchmarks import output
from todo import Settings, patched

STEPS = 10
_SETTINGS = Settings(mode="manual", factor=2, deep_factor=2, end=0.6)
_CONTEXT = 16


@dataclass(frozen=True)
class Compiled:
    """A layout of a UNet of a library.

    Attributes:
        graphs: how many a call is cut into: dense, and with ToDo acting.
        operations: in them, per call, likewise.
        compilations: of whole calls with ToDo, in the run.
    """

    layout: str
    torch: str
    graphs: tuple[int, int]
    operations: tuple[int, int]
    compilations: int


class Graphs:
    """A backend that runs graphs as they are, and counts them and their operations."""

    def __init__(self) -> None:
        self.compiled = self.graphs = self.operations = 0

    def __call__(self, graph: Any, inputs: Any) -> Callable[..., Any]:
        self.compiled += 1
        operations = sum(node.op.startswith("call_") for node in graph.graph.nodes)

        def counted(*args: Any) -> Any:
            self.graphs += 1
            self.operations += operations
            return graph(*args)

        return counted


def run(comfyui: Path | None, folder: Path, name: str) -> None:
    """Measures the layouts of diffusers, or those of ComfyUI in its own folder, and adds them to the file."""
    (file,) = output.files(folder, name, "json")
    before = read(file) if file.exists() else []
    rows = [measure(layout, make()) for layout, make in (_comfyui(comfyui) if comfyui else _diffusers()).items()]
    names = {row.layout for row in rows}
    rows = [*(row for row in before if row.layout not in names), *rows]
    output.write_json([asdict(row) for row in rows], file)
    head, cell_rows = cells(rows)
    print(f"{output.table(head, [cell_rows])}\n{file}")


def measure(layout: str, unet: nn.Module) -> Compiled:
    """Compiles a UNet dense and with ToDo, whose steps are told."""
    graphs = Graphs()
    compiled = torch.compile(unet, backend=graphs)

    def called() -> tuple[int, int]:
        before = graphs.graphs, graphs.operations
        with torch.no_grad():
            _call(compiled)
        return graphs.graphs - before[0], graphs.operations - before[1]

    dense = called()
    with patched(unet, _SETTINGS) as patch:
        counts = []
        first = graphs.compiled
        for step in range(STEPS):
            patch.at(step, STEPS)
            counts.append(called())
    compilations = (graphs.compiled - first) // counts[0][0]
    return Compiled(layout, torch.__version__, (dense[0], counts[0][0]), (dense[1], counts[0][1]), compilations)


def _call(unet: Any) -> None:
    latent, timesteps, context = torch.randn(2, 4, 32, 32), torch.full((2,), 500.0), torch.randn(2, 7, _CONTEXT)
    unet(latent, timesteps, context)


def _diffusers() -> dict[str, Callable[[], nn.Module]]:
    from diffusers import UNet2DConditionModel

    with_text, plain = "CrossAttn{}Block2D", "{}Block2D"

    def made(kinds: list[str], depths: tuple[int, ...]) -> nn.Module:
        channels = tuple(32 * 2 ** min(level, 2) for level in range(len(kinds)))
        unet: Any = UNet2DConditionModel(
            block_out_channels=channels, transformer_layers_per_block=depths, cross_attention_dim=_CONTEXT,
            down_block_types=tuple(kind.format("Down") for kind in kinds), attention_head_dim=2,
            up_block_types=tuple(kind.format("Up") for kind in reversed(kinds)), norm_num_groups=8,
        )  # fmt: skip
        return cast("nn.Module", unet.eval())

    return {
        "diffusers, SD1.5": lambda: made([with_text] * 3 + [plain], (1, 1, 1, 1)),
        "diffusers, SDXL": lambda: made([plain] + [with_text] * 2, (1, 2, 10)),
    }


def _comfyui(folder: Path) -> dict[str, Callable[[], nn.Module]]:
    sys.path.insert(0, str(folder))
    sys.argv = [sys.argv[0], "--cpu", "--use-pytorch-cross-attention"]
    importlib.import_module("comfy.options").enable_args_parsing()
    unet = importlib.import_module("comfy.ldm.modules.diffusionmodules.openaimodel").UNetModel
    operations = importlib.import_module("comfy.ops").disable_weight_init
    common = {
        "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 32, "num_heads": 2,
        "use_spatial_transformer": True, "context_dim": _CONTEXT, "operations": operations, "device": "cpu",
    }  # fmt: skip
    sd1 = {
        "num_res_blocks": [2] * 4, "channel_mult": [1, 2, 4, 4], "transformer_depth": [1] * 6 + [0] * 2,
        "transformer_depth_output": [1] * 9 + [0] * 3, "transformer_depth_middle": 1,
    }  # fmt: skip
    sdxl = {
        "num_res_blocks": [2] * 3, "channel_mult": [1, 2, 4], "transformer_depth": [0, 0, 2, 2, 10, 10],
        "transformer_depth_output": [0] * 3 + [2] * 3 + [10] * 3, "transformer_depth_middle": 10,
        "use_linear_in_transformer": True,
    }  # fmt: skip
    return {
        "ComfyUI, SD1.5": lambda: unet(**common, **sd1).eval(),
        "ComfyUI, SDXL": lambda: unet(**common, **sdxl).eval(),
    }


def cells(rows: list[Compiled]) -> tuple[list[str], list[list[str]]]:
    """The table's head and rows."""
    head = ["UNet", "torch", "graphs of a call, dense / with ToDo", "operations in them", "compilations of a size"]
    return head, [
        [row.layout, row.torch, "{} / {}".format(*row.graphs), "{} / {}".format(*row.operations), str(row.compilations)]
        for row in rows
    ]


def read(path: Path) -> list[Compiled]:
    """The figures that the command has written."""
    values: list[dict[str, Any]] = output.read_json(path)
    return [
        Compiled(**{**row, "graphs": tuple(row["graphs"]), "operations": tuple(row["operations"])}) for row in values
    ]
