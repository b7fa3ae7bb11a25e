"""The measurement: times UNet calls with the methods in turn, so that a slow spell of the machine affects them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.environment import now
from benchmarks.method import DENSE, Method
from benchmarks.speed.cases import Case, Task
from benchmarks.speed.memory import Shadow
from benchmarks.speed.methods import set_step
from benchmarks.speed.models import call, inputs, sample
from benchmarks.speed.results import OUT_OF_MEMORY, Counted, Row, SizeResult
from benchmarks.speed.split import Split, watched
from todo import BlockReport, Patch, Settings, plan
from todo.timing import is_out_of_memory, peak_memory, rotated, wait

_WARM_UPS = {"cpu": 0, "cuda": 3}
"""Calls of each method before its rounds. On CUDA the first calls load kernels and fill the allocator's cache."""

_SETTLING = {"cpu": 0, "cuda": 1}
"""Untimed calls in each round of single calls, after a method was applied. What it does once for an image, such as
copying ToDo's indices to the device, is felt in a call of milliseconds and would be taken for the cost of a step."""


def measure(unet: nn.Module, task: Task) -> Iterator[SizeResult]:
    """Measures the cases of a task. Each method is warmed up and then timed in rounds, which rotate the methods' order.

    The split of a method's time is measured in its last warm-up call. On the CPU, which needs no warm-up and where the
    hooks' cost is negligible, it is measured in the first round.

    Yields:
        The results of the current size so far, after each method in each round.

    Raises:
        RuntimeError: the plan predicts downsampling, but the patch counted none.
    """
    device = next(unet.parameters()).device
    shadow = Shadow(unet, task.model) if device.type == "cpu" else None
    calls = {
        case: sum(_WARM_UPS[device.type] + case.rounds_of(method) * _calls(task) for method in case.methods)
        for case in task.cases
    }
    work = sum(count * _dense_work(task, case) for case, count in calls.items())
    with tqdm(total=work, bar_format="{desc} {percentage:3.0f} % |{bar}| {elapsed} < {remaining}") as bar:
        # The very first call sets things up, which must not count as any method's time.
        call(unet, inputs(unet, task.model, (64, 64), task.batch))
        for case in task.cases:
            yield from _Size(unet, task, case, bar, shadow).measure()


class _Run:
    """The measurement of one method at one size."""

    def __init__(self, method: Method, case: Case, task: Task):
        self.method = method
        self.seconds: list[float | None] = [None] * case.rounds_of(method)
        self.out_of_memory = False
        self.reports: list[BlockReport] = []
        self.peak: int | None = None
        self.split: Split | None = None
        self.settings = method.settings(case.latent) if method.settings else None
        self.plan = plan(*case.size, self.settings, task.model, steps=task.steps) if self.settings else None

    def check(self) -> None:
        """Checks that the patch downsampled what was predicted; a silent failure would be published as a result."""
        if self.plan and not self.plan.note and not any(block.downsampled for block in self.reports):
            reasons = sorted({reason for block in self.reports for reason in block.skips})
            raise RuntimeError(f"{self.plan.summary()} was predicted, but nothing was downsampled: {reasons}")

    def row(self) -> Row:
        note = self.plan.note if self.plan else ""
        return Row(
            method=self.method.name,
            seconds=tuple(self.seconds),
            note=OUT_OF_MEMORY if self.out_of_memory else note,
            settings=self.settings,
            counted=_by_level(self.reports),
            predicted_work_change=self.plan.unet.change if self.plan else None,
            peak_bytes=self.peak,
            split=self.split,
        )


class _Size:
    """The measurement of all methods at one size."""

    def __init__(self, unet: nn.Module, task: Task, case: Case, bar: Any, shadow: Shadow | None):
        self.unet, self.task, self.case, self.bar, self.shadow = unet, task, case, bar, shadow
        self.device = next(unet.parameters()).device
        self.now = now(self.device)
        self.settling = 0 if task.steps else _SETTLING[self.device.type]
        self.inputs = inputs(unet, task.model, case.size, task.batch)
        self.runs = [_Run(method, case, task) for method in case.methods]
        self.reference: Tensor | None = None
        self.identical: bool | None = None

    def measure(self) -> Iterator[SizeResult]:
        """Yields the result so far, after each method in each round."""
        for run in self.runs:
            if self.shadow:
                run.peak = self.shadow.peak(run.method, self.case.size, self.task.batch)
            else:
                self._attempt(run, "warm-up", _WARM_UPS[self.device.type], partial(self._warm_up, run))
        rounds = max(len(run.seconds) for run in self.runs)
        for number in range(rounds):
            for run in rotated([run for run in self.runs if number < len(run.seconds)], number):
                label = f"round {number + 1}/{rounds}"
                self._attempt(run, label, _calls(self.task), partial(self._round, run, number))
                yield SizeResult(*self.case.size, tuple(run.row() for run in self.runs), self.identical)

    def _attempt(self, run: _Run, label: str, calls: int, action: Callable[[], None]) -> None:
        """Performs an action of `calls` UNet calls. If a method runs out of memory, that is its result, and the other
        methods continue."""
        self.bar.set_description_str(f"{'×'.join(map(str, self.case.size))} {run.method.name}, {label}")
        if not run.out_of_memory:
            try:
                action()
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                run.out_of_memory = True
        # Only here, since until the handler ends the error's frames keep their tensors alive.
        if run.out_of_memory and self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.bar.update(calls * _dense_work(self.task, self.case))

    def _warm_up(self, run: _Run) -> None:
        """Makes the calls that are not timed. The last one measures split and peak memory."""
        with run.method.apply(self.unet, self.case.latent) as patch:
            set_step(patch)
            for _ in range(_WARM_UPS[self.device.type] - 1):
                call(self.unet, self.inputs)
            with watched(self.unet) as watch, peak_memory(self.device) as peak:
                call(self.unet, self.inputs)
            run.split = watch.split()
            if peak.before is not None and peak.most is not None:
                run.peak = peak.most - peak.before

    def _round(self, run: _Run, number: int) -> None:
        """Times one unit. Applying and removing the method is not timed."""
        with run.method.apply(self.unet, self.case.latent) as patch:
            set_step(patch, number)
            for _ in range(self.settling):
                call(self.unet, self.inputs)
            with nullcontext() if run.split else watched(self.unet) as watch:
                wait(self.device)
                start = self.now()
                output = self._unit(patch)
                wait(self.device)
                run.seconds[number] = self.now() - start
            if watch:
                run.split = watch.split()
            if patch:
                run.reports += patch.report()
        run.check()
        self._compare(run, output)

    def _unit(self, patch: Patch | None) -> Tensor:
        """The unit that is timed: a single call, or a whole sampling loop."""
        if not self.task.steps:
            return call(self.unet, self.inputs)
        return sample(self.unet, self.inputs, self.task.steps, patch)

    def _compare(self, run: _Run, output: Tensor) -> None:
        """Compares dense outputs with the first one, to detect methods that leave traces on the UNet."""
        if run.method.name != DENSE:
            return
        if self.reference is None:
            self.reference = output
        else:
            self.identical = self.identical is not False and torch.equal(output, self.reference)


def _by_level(reports: Sequence[BlockReport]) -> tuple[Counted, ...]:
    """Sums up the blocks' reports by level, finest first."""
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


def _calls(task: Task) -> int:
    """UNet calls per timed unit."""
    return max(task.steps, 1)


def _dense_work(task: Task, case: Case) -> int:
    """Multiply-accumulates of a dense call, the unit of the progress bar."""
    return task.batch * plan(*case.size, Settings(), task.model).unet.dense
