"""The measurement: times UNet calls with the methods in turn, so that a slow spell of the machine affects them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch import nn
from tqdm import tqdm

from benchmarks.environment import if_it_fits, now
from benchmarks.method import Method
from benchmarks.speed.cases import Case, Task
from benchmarks.speed.methods import set_step
from benchmarks.speed.models import call, inputs, latent_size, sample
from benchmarks.speed.results import Kept, Row, SizeResult
from todo import BlockReport, Patch, Settings, plan
from todo.timing import peak_memory, rotated, wait

_WARM_UPS = {"cpu": 0, "cuda": 3}
"""Calls of each method before its rounds. On CUDA the first calls load kernels and fill the allocator's cache."""

_SETTLING = {"cpu": 0, "cuda": 1}
"""Untimed calls in each round of single calls, after a method was applied. What it does once for an image, such as
copying ToDo's indices to the device, is felt in a call of milliseconds and would be taken for the cost of a step."""


def measure(unet: nn.Module, task: Task) -> Iterator[SizeResult]:
    """Measures the cases of a task. Each method is warmed up and then timed in rounds, which rotate the methods' order.

    Yields:
        The results of the current size so far, after each method in each round.

    Raises:
        RuntimeError: the plan predicts downsampling, but the patch counted none.
    """
    warm_ups = _WARM_UPS[next(unet.parameters()).device.type]
    work = sum(
        len(case.methods) * (warm_ups + case.rounds * _calls(task)) * _dense_work(task, case) for case in task.cases
    )
    with tqdm(total=work, bar_format="{desc} {percentage:3.0f} % |{bar}| {elapsed} < {remaining}") as bar:
        # The very first call sets things up, which must not count as any method's time.
        call(unet, inputs(unet, task.model, (64, 64), task.batch))
        for case in task.cases:
            yield from _Size(unet, task, case, bar).measure()


class _Run:
    """The measurement of one method at one size."""

    def __init__(self, method: Method, case: Case, task: Task):
        self.method = method
        self.seconds: list[float | None] = [None] * case.rounds
        self.out_of_memory = False
        self.kept: Kept | None = None
        self.peak: int | None = None
        settings = method.settings(latent_size(case.size)) if method.settings else None
        self.plan = plan(*case.size, settings, task.model, steps=task.steps) if settings else None

    def count(self, reports: list[BlockReport]) -> None:
        """Notes what the patch kept, and checks that it is not silently without effect, which would be published as a
        result."""
        if self.plan is None:
            return
        if not self.plan.note and not any(block.downsampled for block in reports):
            reasons = sorted({reason for block in reports for reason in block.skips})
            raise RuntimeError(f"{self.plan.summary()} was predicted, but nothing was downsampled: {reasons}")
        self.kept = tuple(
            min((block.kept for block in reports if block.grid and block.level == level.resolution), default=level.kept)
            for level in self.plan.levels
        )

    def row(self) -> Row:
        return Row(self.method.name, tuple(self.seconds), self.kept, self.out_of_memory, self.peak)


class _Size:
    """The measurement of all methods at one size."""

    def __init__(self, unet: nn.Module, task: Task, case: Case, bar: Any):
        self.unet, self.task, self.case, self.bar = unet, task, case, bar
        self.device = next(unet.parameters()).device
        self.now = now(self.device)
        self.inputs = inputs(unet, task.model, case.size, task.batch)
        self.runs = [_Run(method, case, task) for method in case.methods]

    def measure(self) -> Iterator[SizeResult]:
        """Yields the result so far, after each method in each round."""
        for run in self.runs:
            self._attempt(run, "warm-up", _WARM_UPS[self.device.type], partial(self._warm_up, run))
        for number in range(self.case.rounds):
            for run in rotated(self.runs, number):
                label = f"round {number + 1}/{self.case.rounds}"
                self._attempt(run, label, _calls(self.task), partial(self._round, run, number))
                yield SizeResult(*self.case.size, tuple(run.row() for run in self.runs))

    def _attempt(self, run: _Run, label: str, calls: int, action: Callable[[], object]) -> None:
        """Performs an action of `calls` UNet calls. If a method runs out of memory, that is its result, and the other
        methods continue."""
        self.bar.set_description_str(f"{'×'.join(map(str, self.case.size))} {run.method.name}, {label}")
        if not run.out_of_memory:
            run.out_of_memory = if_it_fits(lambda: (action(),)) is None
        self.bar.update(calls * _dense_work(self.task, self.case))

    def _warm_up(self, run: _Run) -> None:
        """Makes the calls that are not timed, and measures the last one's peak memory."""
        with run.method.apply(self.unet, latent_size(self.case.size)) as patch:
            set_step(patch)
            for _ in range(_WARM_UPS[self.device.type]):
                with peak_memory(self.device) as peak:
                    call(self.unet, self.inputs)
                if peak.before is not None and peak.most is not None:
                    run.peak = peak.most - peak.before

    def _round(self, run: _Run, number: int) -> None:
        """Times one unit. Applying and removing the method is not timed."""
        with run.method.apply(self.unet, latent_size(self.case.size)) as patch:
            set_step(patch, number)
            for _ in range(0 if self.task.steps else _SETTLING[self.device.type]):
                call(self.unet, self.inputs)
            wait(self.device)
            start = self.now()
            self._unit(patch)
            wait(self.device)
            run.seconds[number] = round(self.now() - start, 7)
            run.count(patch.report() if patch else [])

    def _unit(self, patch: Patch | None) -> None:
        """The unit that is timed: a single call, or a whole sampling loop."""
        if self.task.steps:
            sample(self.unet, self.inputs, self.task.steps, patch)
        else:
            call(self.unet, self.inputs)


def _calls(task: Task) -> int:
    """UNet calls per timed unit."""
    return max(task.steps, 1)


def _dense_work(task: Task, case: Case) -> int:
    """Multiply-accumulates of a dense call, the unit of the progress bar."""
    return task.batch * plan(*case.size, Settings(), task.model).unet.dense
