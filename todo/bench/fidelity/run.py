"""A fidelity run: the work spread over processes, its progress, and what is written."""

from __future__ import annotations

import itertools
import multiprocessing
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from math import nan
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from todo.bench.environment import describe
from todo.bench.fidelity import plot, report
from todo.bench.fidelity.measure import Sample, measure
from todo.bench.fidelity.methods import DENSE, METHODS, PUBLISHED
from todo.bench.fidelity.peaked import effective_share
from todo.bench.fidelity.results import Result, Size, write
from todo.bench.methods import check_names
from todo.bench.painter.painter import Painter, load
from todo.bench.painter.sampler import Order, Sampling

_TOGETHER = 4
"""Pictures in a batch."""


@dataclass(frozen=True)
class Task:
    """What is to be drawn: `seeds` pictures of each prompt at each size, (height, width) in pixels. `probe` tells
    whether single calls are compared, too, in the pictures of the first seeds."""

    sizes: Sequence[Size]
    prompts: Sequence[str]
    seeds: int
    methods: Sequence[str]
    sampling: Sampling
    probe: bool = True

    def orders(self) -> Iterator[Order]:
        """Seeds change last, so that a run that is cut short has something of everything."""
        for first in range(0, self.seeds, _TOGETHER):
            seeds = tuple(range(first, min(first + _TOGETHER, self.seeds)))
            for prompt, size in itertools.product(self.prompts, sorted(self.sizes, reverse=True)):
                yield Order(prompt, seeds, size, self.sampling)

    def samples_of_attention(self) -> Iterator[Order]:
        """The pictures in which it is seen how peaked attention is: one of each prompt and size."""
        for prompt, size in itertools.product(self.prompts, self.sizes):
            yield Order(prompt, (0,), size, self.sampling)


def methods(names: Sequence[str] | None) -> list[str]:
    """The methods to compare, dense first; the published ones where none is named.

    Raises:
        SettingsError: for a name that is none of them.
    """
    check_names(names or (), METHODS)
    return list(dict.fromkeys([DENSE, *names])) if names else list(PUBLISHED)


def run(task: Task, workers: int, folder: Path, name: str) -> None:
    """Draws and compares everything, then prints the tables and writes JSON and plot, if anything is complete."""
    for result in perform([task], workers):
        folder.mkdir(parents=True, exist_ok=True)
        write([result], folder / f"{name}.json")
        plot.save(result, folder / f"{name}.png")
        print(report.text(result))
        print(f"{folder / name}.json\n{folder / name}.png")


def perform(tasks: Sequence[Task], workers: int) -> list[Result]:
    """The results of those tasks of which something is complete, drawn by one thread for each worker. Interrupted, it
    keeps the seeds that are complete."""
    from tqdm import tqdm

    samples: list[list[Sample]] = [[] for _ in tasks]
    shares: list[dict[Size, list[float]]] = [defaultdict(list) for _ in tasks]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _prepare) as pool:
        running: dict[Future[Any], Callable[[Any], None]] = {}
        for task, found, seen in zip(tasks, samples, shares, strict=True):
            for order in task.samples_of_attention():
                running[pool.submit(_share, order)] = seen[order.size].extend
            for order in task.orders():
                probe = task.probe and 0 in order.seeds
                running[pool.submit(_measure, order, tuple(task.methods), probe)] = found.extend
        try:
            for done in tqdm(as_completed(running), total=len(running), unit="batch", smoothing=0):
                running[done](done.result())
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            print("interrupted: what is not complete is left out")
    _prepare()  # the environment is a worker's
    environment = describe(_painter.unet)
    results = []
    for task, found, seen in zip(tasks, samples, shares, strict=True):
        if complete := _complete(task, found):
            peaked = {size: fmean(each or [nan]) for size, each in seen.items()}
            results.append(Result(environment, task.sampling, tuple(complete), peaked))
    return results


def _complete(task: Task, samples: Iterable[Sample]) -> list[Sample]:
    """The samples of those seeds that every size, prompt and method has."""
    found = list(samples)
    whole = len(task.sizes) * len(task.prompts) * len(task.methods)
    counts = {seed: sum(sample.seed == seed for sample in found) for seed in range(task.seeds)}
    return [sample for sample in found if counts[sample.seed] == whole]


_painter: Painter


def _prepare() -> None:
    """One thread, and the model: what every process needs once."""
    global _painter
    torch.set_num_threads(1)
    _painter = load()


def _measure(order: Order, names: Sequence[str], probe: bool) -> list[Sample]:
    return measure(_painter, order, names, probe)


def _share(order: Order) -> list[float]:
    return effective_share(_painter, order)
