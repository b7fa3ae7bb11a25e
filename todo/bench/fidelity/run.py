"""A fidelity run: the work spread over processes, its progress, and what is written."""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import torch

from todo import SettingsError
from todo.bench.environment import describe
from todo.bench.fidelity import plot, report
from todo.bench.fidelity.measure import Sample, measure
from todo.bench.fidelity.methods import DENSE, METHODS, PUBLISHED
from todo.bench.fidelity.peaked import effective_share
from todo.bench.fidelity.results import Result, Size, write
from todo.bench.painter.painter import Painter, load
from todo.bench.painter.sampler import Order

_TOGETHER = 4
"""Pictures in a batch."""


@dataclass(frozen=True)
class Task:
    """What is to be drawn: `seeds` pictures of each prompt at each size, (height, width) in pixels."""

    sizes: Sequence[Size]
    prompts: Sequence[str]
    seeds: int
    methods: Sequence[str]
    steps: int
    sampler: str
    guidance: float

    def orders(self) -> Iterator[Order]:
        """Seeds change last, so that a run that is cut short has something of everything."""
        for first in range(0, self.seeds, _TOGETHER):
            seeds = tuple(range(first, min(first + _TOGETHER, self.seeds)))
            for prompt, size in itertools.product(self.prompts, sorted(self.sizes, reverse=True)):
                yield Order(prompt, seeds, size, self.steps, self.sampler, self.guidance)


def methods(names: Sequence[str] | None) -> list[str]:
    """The methods to compare, dense first; the published ones where none is named.

    Raises:
        SettingsError: for a name that is none of them.
    """
    for name in names or ():
        if name not in METHODS:
            raise SettingsError("compare", f"compare: {name!r} is not allowed; it must be one of {', '.join(METHODS)}")
    return list(dict.fromkeys([DENSE, *names])) if names else list(PUBLISHED)


def run(task: Task, workers: int, folder: Path, name: str) -> Result:
    """Draws and compares everything, one thread for each worker, then prints the table and writes JSON and plot.
    Interrupted, it keeps the seeds that are complete."""
    torch.set_num_threads(1)
    painter = load()
    samples = list(_samples(task, workers))
    peaked = {size: _peaked(painter, task, size) for size in task.sizes}
    result = Result(
        describe(painter.unet), task.steps, task.sampler, task.guidance, tuple(_complete(task, samples)), peaked
    )
    folder.mkdir(parents=True, exist_ok=True)
    write(result, folder / f"{name}.json")
    plot.save(result, folder / f"{name}.png")
    print(report.text(result))
    print(f"{folder / name}.json\n{folder / name}.png")
    return result


def _samples(task: Task, workers: int) -> Iterator[Sample]:
    from tqdm import tqdm

    orders = list(task.orders())
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _prepare) as pool:
        running = [pool.submit(_measure, order, tuple(task.methods)) for order in orders]
        try:
            for done in tqdm(as_completed(running), total=len(running), unit="batch", smoothing=0):
                yield from done.result()
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)


def _complete(task: Task, samples: Iterable[Sample]) -> list[Sample]:
    """The samples of those seeds that every size, prompt and method has."""
    found = list(samples)
    whole = len(task.sizes) * len(task.prompts) * len(task.methods)
    counts = {seed: sum(sample.seed == seed for sample in found) for seed in range(task.seeds)}
    return [sample for sample in found if counts[sample.seed] == whole]


def _peaked(painter: Painter, task: Task, size: Size) -> float:
    orders = [Order(prompt, (0,), size, task.steps, task.sampler, task.guidance) for prompt in task.prompts]
    shares = [effective_share(painter, order)[0] for order in orders]
    return sum(shares) / len(shares)


_painter: Painter


def _prepare() -> None:
    """Once in each worker."""
    global _painter
    torch.set_num_threads(1)
    _painter = load()


def _measure(order: Order, names: Sequence[str]) -> list[Sample]:
    return measure(_painter, order, names)
