"""The measurement: time of one UNet call, dense against ToDo, in turns, so that a slow spell of the machine hits
both."""

from __future__ import annotations

import datetime
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from todo import BlockReport, Plan, Settings, patched, plan
from todo.bench.models import LAYOUT
from todo.plan import LATENT_SCALE

_STEPS = 1000
"""Steps of the pretended run: so many that all rounds lie at the beginning of the settings' step window, where
the plan looks, while the phase turns from round to round."""

_SEED = 1
_TEXT_TOKENS = 77

Inputs = tuple[Tensor, Tensor, Tensor]
"""What the UNet is called with: latent (1, 4, h, w), timesteps (1,) and context (1, 77, channels)."""


@dataclass(frozen=True)
class Environment:
    """Where and on what was measured. `parameters` counts the model's."""

    date: str
    torch: str
    device: str
    threads: int
    dtype: str
    parameters: int


@dataclass(frozen=True)
class Spread:
    """A figure's median over the rounds, with its lowest and highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Counted:
    """What the patch reports of a level that was touched: keys per grid (h, w) before and after, calls of its
    self-attention in all rounds, and how many of them were downsampled."""

    level: int
    grid: tuple[int, int]
    tokens: int
    kept: int
    calls: int
    downsampled: int


@dataclass(frozen=True)
class Row:
    """One size with one group of settings: the prediction, what the patch counted, and seconds by round."""

    settings: Settings
    plan: Plan
    counted: tuple[Counted, ...]
    dense_seconds: tuple[float, ...]
    todo_seconds: tuple[float, ...]

    @property
    def speedup(self) -> Spread:
        """Dense over ToDo, round by round."""
        pairs = zip(self.dense_seconds, self.todo_seconds, strict=True)
        return Spread.of([dense / todo for dense, todo in pairs])

    @property
    def time_change(self) -> float:
        """Relative change of the time at the median speed-up: -0.3 for 30 % less."""
        return 1 / self.speedup.median - 1


@dataclass(frozen=True)
class Result:
    """The whole measurement. `identical` tells whether every dense output after a patch was taken off had the same
    bits as before the first one was put on."""

    environment: Environment
    rounds: int
    rows: tuple[Row, ...]
    identical: bool


def describe(unet: nn.Module) -> Environment:
    """The environment of a UNet."""
    parameter = next(unet.parameters())
    device = parameter.device.type
    if device == "cuda":
        device = f"{device} ({torch.cuda.get_device_name(parameter.device)})"
    return Environment(
        date=datetime.date.today().isoformat(),
        torch=torch.__version__,
        device=device,
        threads=torch.get_num_threads(),
        dtype=str(parameter.dtype).removeprefix("torch."),
        parameters=sum(each.numel() for each in unet.parameters()),
    )


def measure(unet: nn.Module, sizes: Sequence[tuple[int, int]], settings: Sequence[Settings], rounds: int) -> Result:
    """Times the UNet at each size, dense and with each of `settings` in turn, `rounds` times after a warm-up.

    Args:
        unet: from `build_unet`.
        sizes: pictures' (width, height) in pixels, multiples of 64.

    Raises:
        RuntimeError: the patch counted no downsampled call where the plan predicts some.
    """
    rows: list[Row] = []
    identical = True
    with tqdm(total=len(sizes) * (1 + rounds) * (1 + len(settings)), unit="call") as bar:
        timer = _Timer(unet, bar)
        pictures = [_inputs(unet, size) for size in sizes]
        # These also warm up. They come before the first patch, so that they show the untouched model.
        references = [timer.call(picture)[1] for picture in pictures]
        for size, picture, reference in zip(sizes, pictures, references, strict=True):
            runs = [_Run(each, plan(*size, each)) for each in settings]
            for run in runs:
                run.call(timer, picture, 0)
            dense = []
            for step in range(rounds):
                seconds, output = timer.call(picture)
                dense.append(seconds)
                identical = identical and torch.equal(output, reference)
                for run in runs:
                    run.record(*run.call(timer, picture, step))
            rows += [run.row(dense) for run in runs]
    return Result(describe(unet), rounds, tuple(rows), identical)


class _Timer:
    """Calls the UNet, timed, and moves the progress bar on."""

    def __init__(self, unet: nn.Module, bar: Any):
        self.unet = unet
        self.bar = bar
        self.device = next(unet.parameters()).device

    def call(self, inputs: Inputs) -> tuple[float, Tensor]:
        """Seconds of one call, and its output."""
        # On CUDA hosts run the float16 UNet under autocast; without it ldm's timestep embedding would not fit.
        on_cuda = self.device.type == "cuda"
        with torch.inference_mode(), torch.autocast("cuda", torch.float16, enabled=on_cuda):
            self._wait()
            start = time.perf_counter()
            output = self.unet(*inputs)
            self._wait()
            seconds = time.perf_counter() - start
        self.bar.update()
        return seconds, output

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


class _Run:
    """One size with one group of settings, while it is measured."""

    def __init__(self, settings: Settings, prediction: Plan):
        self.settings = settings
        self.plan = prediction
        self.seconds: list[float] = []
        self.reports: list[BlockReport] = []

    def call(self, timer: _Timer, inputs: Inputs, step: int) -> tuple[float, list[BlockReport]]:
        """Seconds of one call with ToDo on, and the patch's report. Putting it on and off is not timed."""
        first = math.ceil(self.settings.start * _STEPS)
        with patched(timer.unet, self.settings) as patch:
            patch.at(first + step, _STEPS)
            seconds, _ = timer.call(inputs)
            return seconds, patch.report()

    def record(self, seconds: float, report: list[BlockReport]) -> None:
        if not self.plan.note and not any(block.downsampled for block in report):
            reasons = sorted({reason for block in report for reason in block.skips})
            raise RuntimeError(f"{self.plan.summary()} was predicted, but nothing was downsampled: {reasons}")
        self.seconds.append(seconds)
        self.reports += report

    def row(self, dense: Sequence[float]) -> Row:
        return Row(self.settings, self.plan, _count(self.reports), tuple(dense), tuple(self.seconds))


def _count(reports: Sequence[BlockReport]) -> tuple[Counted, ...]:
    """Adds up the blocks' reports by level, finest first."""
    levels: dict[tuple[int, tuple[int, int]], list[BlockReport]] = {}
    for block in reports:
        if block.grid is not None:
            levels.setdefault((block.level, block.grid), []).append(block)
    return tuple(
        Counted(
            level=level,
            grid=grid,
            tokens=blocks[0].tokens,
            kept=min(block.kept for block in blocks),
            calls=sum(block.calls for block in blocks),
            downsampled=sum(block.downsampled for block in blocks),
        )
        for (level, grid), blocks in sorted(levels.items())
    )


def _inputs(unet: nn.Module, size: tuple[int, int]) -> Inputs:
    """Noise for a picture of `size` = (width, height) in pixels; the same on every call and device."""
    parameter = next(unet.parameters())
    width, height = size
    generator = torch.Generator().manual_seed(_SEED)
    latent = torch.randn(1, 4, height // LATENT_SCALE, width // LATENT_SCALE, generator=generator)
    context = torch.randn(1, _TEXT_TOKENS, LAYOUT.context, generator=generator)
    timesteps = torch.tensor([500], device=parameter.device)
    return latent.to(parameter), timesteps, context.to(parameter)
