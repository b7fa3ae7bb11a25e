"""The command `demo`: one image, dense and with ToDo, from the same noise, side by side."""

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
from benchmarks.sampling import Request
from benchmarks.tiny.model import TinyModel, check_prompt, load
from benchmarks.tiny.sampler import decode, sample
from todo import BlockReport, Patch, Settings, patched
from todo.timing import rotated

_ROUNDS = 3
_AMPLIFICATION = 8
"""The factor by which the difference of the images is brightened."""


@dataclass(frozen=True)
class Demo:
    """Both images and what they took.

    Attributes:
        dense, todo: the images, (height, width, 3) in [0, 1].
        seconds: of each image by round, under 'dense' and 'ToDo'.
        report: the patch's, of the last round.
        machine: model of the processor or GPU.
    """

    request: Request
    settings: Settings
    dense: Any
    todo: Any
    seconds: dict[str, list[float]]
    report: list[BlockReport]
    machine: str

    @property
    def speedup(self) -> list[float]:
        """Dense time over ToDo's, by round."""
        return [dense / todo for dense, todo in zip(self.seconds["dense"], self.seconds["ToDo"], strict=True)]

    @property
    def median_seconds(self) -> dict[str, float]:
        """Median seconds over the rounds, under 'dense' and 'ToDo'."""
        return {name: statistics.median(rounds) for name, rounds in self.seconds.items()}

    @property
    def psnr(self) -> float:
        """In dB, of ToDo's image against the dense one."""
        return similarity.psnr(self.todo, self.dense)


def run(request: Request, settings: Settings, folder: Path, name: str) -> Demo:
    """Makes both images, writes them side by side and prints a table.

    Raises:
        SettingsError: the model does not know a word of the prompt, or a file cannot be written.
    """
    check_prompt(request.prompt)
    (path,) = output.files(folder, name, "png")
    print(f"Making {request.prompt!r}, dense and with ToDo, {_ROUNDS} times each ...", flush=True)
    demo = make(load(), request, settings)
    style.save(lambda: _figure(demo), path, dpi=120)
    print(f"\n{table(demo)}\n\n{path}")
    return demo


def make(model: TinyModel, request: Request, settings: Settings) -> Demo:
    """Makes both images in interleaved rounds. The first round only warms up and is not timed."""
    clock = now(model.device)
    latents: dict[str, Tensor] = {}
    seconds: dict[str, list[float]] = {"dense": [], "ToDo": []}
    report: list[BlockReport] = []
    variants: dict[str, Callable[[], AbstractContextManager[Patch | None]]] = {
        "dense": nullcontext,
        "ToDo": partial(patched, model.unet, settings),
    }
    for number in range(1 + _ROUNDS):
        for name in rotated(list(variants), number):
            with variants[name]() as patch:
                start = clock()
                latents[name] = sample(model, request, patch)
                if number:
                    seconds[name].append(clock() - start)
                if patch:
                    report = patch.report()
    dense, downsampled = (decode(model, latents[name])[0] for name in variants)
    environment = describe(model.unet)
    return Demo(request, settings, dense, downsampled, seconds, report, environment.machine or environment.device)


def table(demo: Demo) -> str:
    """Settings, times and fidelity, as text."""
    height, width = demo.request.size
    seconds = demo.median_seconds
    ratios = demo.speedup
    downsampled = {(row.level, f"{row.tokens} → {row.kept}") for row in demo.report if row.downsampled}
    keys = [f"level {level}: {change}" for level, change in sorted(downsampled)] or ["no effect at this size"]
    rows = [
        ("image", f"{demo.request.prompt!r}, {width}×{height}, seed {demo.request.seeds[0]}, {demo.request.sampling}"),
        ("ToDo", settings_label(demo.settings)),
        ("keys/values", ", ".join(keys)),
        ("dense", f"{seconds['dense']:.2f} s"),
        ("with ToDo", f"{seconds['ToDo']:.2f} s"),
        ("speed-up", f"×{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"),
        ("PSNR", f"{demo.psnr:.1f} dB"),
        ("SSIM", f"{similarity.ssim(demo.todo, demo.dense):.4f}"),
        ("measured on", demo.machine),
    ]
    return output.pairs(rows)


def _figure(demo: Demo) -> Figure:
    difference = np.clip(np.abs(demo.todo - demo.dense) * _AMPLIFICATION, 0, 1)
    seconds = demo.median_seconds
    panels = (
        (demo.dense, f"dense, {seconds['dense']:.2f} s"),
        (demo.todo, f"ToDo, {seconds['ToDo']:.2f} s (×{statistics.median(demo.speedup):.2f})"),
        (difference, f"difference, {_AMPLIFICATION} times brighter\nPSNR {demo.psnr:.1f} dB"),
    )
    figure = Figure(figsize=(12, 4.8), layout="constrained")
    for axes, (image, title) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        axes.imshow(image, interpolation="nearest")
        axes.set_title(title)
        axes.set_axis_off()
    height, width = demo.request.size
    figure.suptitle(f"“{demo.request.prompt}”, {width}×{height}, ToDo: {settings_label(demo.settings)}")
    return figure
