"""The command `demo`: one image dense and with ToDo, from the same noise, side by side."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks import output, similarity, style
from benchmarks.environment import describe, now
from benchmarks.method import settings_label
from benchmarks.tiny.model import TinyModel, check_prompt, load
from benchmarks.tiny.sampler import Request, decode, sample
from todo import BlockReport, Patch, Settings, patched
from todo.timing import rotated

_ROUNDS = 3
_AMPLIFICATION = 8
"""How much brighter the difference is shown."""


@dataclass(frozen=True)
class Demo:
    """Both images, (height, width, 3) in [0, 1], seconds of each by round, and what the patch reports."""

    request: Request
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
    def median_seconds(self) -> dict[str, float]:
        """The median over the rounds."""
        return {name: statistics.median(each) for name, each in self.seconds.items()}

    @property
    def psnr(self) -> float:
        return similarity.psnr(self.todo, self.dense)


def run(request: Request, settings: Settings, folder: Path, name: str) -> Demo:
    """Makes both images, writes them side by side and prints a table."""
    check_prompt(request.prompt)
    (path,) = output.files(folder, name, "png")
    print(f"Making {request.prompt!r}, dense and with ToDo, {_ROUNDS} times each ...", flush=True)
    made = make(load(), request, settings)
    style.save(lambda: _figure(made), path, dpi=120)
    print(f"\n{table(made)}\n\n{path}")
    return made


def make(model: TinyModel, request: Request, settings: Settings) -> Demo:
    """Makes both images in interleaved rounds, of which the first only warms up."""
    clock = now(model.device)
    latents: dict[str, Tensor] = {}
    seconds: dict[str, list[float]] = {"dense": [], "ToDo": []}
    report: list[BlockReport] = []
    put_on: dict[str, Callable[[], AbstractContextManager[Patch | None]]] = {
        "dense": nullcontext,
        "ToDo": partial(patched, model.unet, settings),
    }
    for number in range(1 + _ROUNDS):
        for name in rotated(list(put_on), number):
            with put_on[name]() as patch:
                began = clock()
                latents[name] = sample(model, request, patch)
                if number:
                    seconds[name].append(clock() - began)
                if patch:
                    report = patch.report()
    dense, own = (decode(model, latents[name])[0] for name in put_on)
    environment = describe(model.unet)
    return Demo(request, settings, dense, own, seconds, report, environment.machine or environment.device)


def table(made: Demo) -> str:
    """Times and fidelity, in words."""
    height, width = made.request.size
    seconds = made.median_seconds
    ratios = made.speedup
    touched = {(row.level, f"{row.tokens} → {row.kept}") for row in made.report if row.downsampled}
    keys = [f"level {level}: {count}" for level, count in sorted(touched)] or ["no effect at this size"]
    rows = [
        ("image", f"{made.request.prompt!r}, {width}×{height}, seed {made.request.seeds[0]}, {made.request.sampling}"),
        ("ToDo", settings_label(made.settings)),
        ("keys/values", ", ".join(keys)),
        ("dense", f"{seconds['dense']:.2f} s"),
        ("with ToDo", f"{seconds['ToDo']:.2f} s"),
        ("speed-up", f"×{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"),
        ("PSNR", f"{made.psnr:.1f} dB"),
        ("SSIM", f"{similarity.ssim(made.todo, made.dense):.4f}"),
        ("measured on", made.machine),
    ]
    return output.pairs(rows)


def _figure(made: Demo) -> Figure:
    difference = np.clip(np.abs(made.todo - made.dense) * _AMPLIFICATION, 0, 1)
    seconds = made.median_seconds
    panels = (
        (made.dense, f"dense, {seconds['dense']:.2f} s"),
        (made.todo, f"ToDo, {seconds['ToDo']:.2f} s (×{statistics.median(made.speedup):.2f})"),
        (difference, f"difference, {_AMPLIFICATION} times brighter\nPSNR {made.psnr:.1f} dB"),
    )
    figure = Figure(figsize=(12, 4.8), layout="constrained")
    for axes, (image, title) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        axes.imshow(image, interpolation="nearest")
        axes.set_title(title)
        axes.set_axis_off()
    height, width = made.request.size
    figure.suptitle(f"“{made.request.prompt}”, {width}×{height}, ToDo: {settings_label(made.settings)}")
    return figure
