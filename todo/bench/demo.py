"""The demonstration: one picture dense and with ToDo, from the same noise, side by side."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from todo import Patch, Settings, patched
from todo.bench import similarity
from todo.bench.environment import describe, now
from todo.bench.methods import settings_label
from todo.bench.painter.painter import Painter, load
from todo.bench.painter.sampler import Order, draw, pictures
from todo.bench.plot import STYLE
from todo.block import BlockReport
from todo.timing import rotated

_ROUNDS = 3
_AMPLIFIED = 8
"""How much brighter the difference is shown."""


@dataclass(frozen=True)
class Demo:
    """Both pictures, (height, width, 3) in [0, 1], seconds of each by round, and what the patch reports."""

    order: Order
    settings: Settings
    dense: Any
    todo: Any
    seconds: dict[str, list[float]]
    report: list[BlockReport]
    machine: str

    @property
    def speedup(self) -> list[float]:
        """Dense over ToDo, by round."""
        return [dense / own for dense, own in zip(self.seconds["dense"], self.seconds["ToDo"], strict=True)]

    @property
    def usual_seconds(self) -> dict[str, float]:
        """The median over the rounds."""
        return {name: statistics.median(each) for name, each in self.seconds.items()}

    @property
    def psnr(self) -> float:
        return similarity.psnr(self.todo, self.dense)


def run(order: Order, settings: Settings, folder: Path) -> Demo:
    """Draws, prints the table and writes the picture."""
    print(f"Drawing {order.prompt!r}, dense and with ToDo, {_ROUNDS} times each ...", flush=True)
    found = make(load(), order, settings)
    path = folder / "demo.png"
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        _figure(found).savefig(path, dpi=120)
    print(f"\n{table(found)}\n\n{path}")
    return found


def make(painter: Painter, order: Order, settings: Settings) -> Demo:
    """Draws both pictures in interleaved rounds, of which the first only warms up."""
    clock = now(painter.device)
    latents: dict[str, Tensor] = {}
    seconds: dict[str, list[float]] = {"dense": [], "ToDo": []}
    report: list[BlockReport] = []
    ways: dict[str, Callable[[], AbstractContextManager[Patch | None]]] = {
        "dense": nullcontext,
        "ToDo": partial(patched, painter.unet, settings),
    }
    for number in range(1 + _ROUNDS):
        for name in rotated(list(ways), number):
            with ways[name]() as patch:
                began = clock()
                latents[name] = draw(painter, order, patch)
                if number:
                    seconds[name].append(clock() - began)
                if patch:
                    report = patch.report()
    dense, own = (pictures(painter, latents[name])[0] for name in ways)
    environment = describe(painter.unet)
    return Demo(order, settings, dense, own, seconds, report, environment.machine or environment.device)


def table(found: Demo) -> str:
    """Times and likeness, in words."""
    height, width = found.order.size
    seconds = found.usual_seconds
    ratios = found.speedup
    touched = {(row.level, f"{row.tokens} → {row.kept}") for row in found.report if row.downsampled}
    keys = [f"level {level}: {count}" for level, count in sorted(touched)] or ["no effect at this size"]
    rows = [
        ("picture", f"{found.order.prompt!r}, {width}×{height}, seed {found.order.seeds[0]}, "
                    f"{found.order.sampling}"),
        ("ToDo", settings_label(found.settings)),
        ("keys/values", ", ".join(keys)),
        ("dense", f"{seconds['dense']:.2f} s"),
        ("with ToDo", f"{seconds['ToDo']:.2f} s"),
        ("speed-up", f"×{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"),
        ("PSNR", f"{found.psnr:.1f} dB"),
        ("SSIM", f"{similarity.ssim(found.todo, found.dense):.4f}"),
        ("measured on", found.machine),
    ]  # fmt: skip
    return "\n".join(f"{name:<12} {value}" for name, value in rows)


def _figure(found: Demo) -> Figure:
    difference = np.clip(np.abs(found.todo - found.dense) * _AMPLIFIED, 0, 1)
    seconds = found.usual_seconds
    panels = (
        (found.dense, f"dense, {seconds['dense']:.2f} s"),
        (found.todo, f"ToDo, {seconds['ToDo']:.2f} s (×{statistics.median(found.speedup):.2f})"),
        (
            difference,
            f"difference, {_AMPLIFIED} times brighter\nPSNR {found.psnr:.1f} dB",
        ),
    )
    figure = Figure(figsize=(12, 4.8), layout="constrained")
    for axes, (picture, title) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        axes.imshow(picture, interpolation="nearest")
        axes.set_title(title)
        axes.set_axis_off()
    height, width = found.order.size
    figure.suptitle(f"“{found.order.prompt}”, {width}×{height}, ToDo: {settings_label(found.settings)}")
    return figure
