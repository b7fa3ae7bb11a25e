"""The patch's own time: what its hooks take, idle and acting. The command `overhead`.

All hooks of a call are called by hand, one after the other, with what they were given in a real call: on the layouts
of SD1.5 and SDXL with very few channels and a tiny latent. The least of many times counts. Differences of whole calls
would drown in noise.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks import output
from benchmarks.environment import Environment, describe
from benchmarks.speed.models import Inputs, build_unet, call, inputs
from benchmarks.speed.report import MODELS
from todo import Settings, patched
from todo.hooks import Hook
from todo.unet import find_self_attention

_WIDTH = 32
"""Channels of the first level."""

_SIDE = 64
"""Pixels per side: at the finest level of SD1 a grid of 8 by 8 tokens."""

_STATES = {
    "idle": Settings(mode="manual", factor=2, deep_factor=2, max_downsample=8, start=0.5),
    "acting": Settings(mode="manual", factor=2, deep_factor=2, max_downsample=8),
}


def run(calls: int, folder: Path, name: str) -> None:
    """Measures the layouts of SD1.5 and SDXL, prints the table and writes the figures."""
    (file,) = output.files(folder, name, "json")
    torch.set_num_threads(1)
    rows = {}
    for model in ("sd1", "sdxl"):
        unet = build_unet(model, torch.device("cpu"), torch.float32, _WIDTH)
        rows[model] = measure(unet, model, calls)
    output.write_json({"environment": asdict(replace(describe(unet), clock="wall time")), "rows": rows}, file)
    print(f"{as_markdown(file)}\n{file}")


def measure(unet: nn.Module, model: str, calls: int) -> dict[str, float]:
    """The number of self-attention blocks, and the microseconds of all hooks of a call per block: idle, where nothing
    is downsampled, and acting, where every level is, the selection of tokens included."""
    given, blocks = inputs(unet, model, (_SIDE, _SIDE)), len(find_self_attention(unet))
    least = {state: _least(unet, given, settings, calls) / blocks for state, settings in _STATES.items()}
    return {"blocks": blocks, **{state: round(1e6 * seconds, 2) for state, seconds in least.items()}}


def _least(unet: nn.Module, given: Inputs, settings: Settings, calls: int) -> float:
    """Seconds of all hooks of a call."""
    made: list[tuple[Callable[..., Any], Any]] = []
    with patched(unet, settings) as patch, torch.inference_mode():
        for hook in _hooks(unet):
            hook.run = _recorded(hook.run, made)
        patch.at(0, 10)
        call(unet, given)
        return min(_seconds(made) for _ in range(calls))


def _seconds(made: list[tuple[Callable[..., Any], Any]]) -> float:
    start = time.perf_counter()
    for run, args in made:
        run(*args)
    return time.perf_counter() - start


def _hooks(unet: nn.Module) -> list[Any]:
    tables = ((*module._forward_pre_hooks.values(), *module._forward_hooks.values()) for module in unet.modules())
    return [hook for hooks in tables for hook in hooks if isinstance(hook, Hook)]


def _recorded(run: Callable[..., Any], made: list[tuple[Callable[..., Any], Any]]) -> Callable[..., Any]:
    def recorded(*args: Any) -> Any:
        made.append((run, args))
        return run(*args)

    return recorded


def as_markdown(path: Path) -> str:
    """The figures that the command has written, and what made them."""
    values: dict[str, Any] = output.read_json(path)
    environment = Environment(**values["environment"])
    rows = [
        [MODELS[model], str(row["blocks"]), f"{row['idle']:.1f}", f"{row['acting']:.1f}"]
        for model, row in values["rows"].items()
    ]
    table = output.markdown(["layout", "blocks", "idle, µs a block", "acting, µs a block"], rows)
    return f"{environment.where} · {environment.date}\n\n{table}"
