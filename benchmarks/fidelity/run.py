"""The command `fidelity`: the work spread over processes, its progress, and what is written."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from benchmarks import output, workers
from benchmarks.environment import Environment, describe
from benchmarks.fidelity.attention import effective_share
from benchmarks.fidelity.methods import METHODS, PUBLISHED
from benchmarks.fidelity.results import Result, Size, write
from benchmarks.fidelity.scores import Score, score
from benchmarks.interrupt import kept
from benchmarks.method import DENSE, check_names
from benchmarks.tiny.model import TinyModel, check_prompt, load
from benchmarks.tiny.sampler import Request, Sampling

_BATCH = 4
"""Images made together."""


@dataclass(frozen=True)
class Task:
    """What is to be made: `seeds` images of each prompt at each size, (height, width) in pixels. `probe` tells whether
    single calls are compared, too, in the images of the first seeds.

    Raises:
        SettingsError: the tiny model does not know a word of a prompt.
    """

    sizes: Sequence[Size]
    prompts: Sequence[str]
    seeds: int
    methods: Sequence[str]
    sampling: Sampling
    probe: bool = True

    def __post_init__(self) -> None:
        for prompt in self.prompts:
            check_prompt(prompt)

    def requests(self) -> Iterator[Request]:
        """Seeds change last, so that a run that is ended early has something of everything."""
        for first in range(0, self.seeds, _BATCH):
            seeds = tuple(range(first, min(first + _BATCH, self.seeds)))
            for prompt, size in itertools.product(self.prompts, sorted(self.sizes, reverse=True)):
                yield Request(prompt, seeds, size, self.sampling)

    def attention_requests(self) -> Iterator[Request]:
        """The images in which attention is looked at: one of each prompt and size."""
        for prompt, size in itertools.product(self.prompts, self.sizes):
            yield Request(prompt, (0,), size, self.sampling)


class Progress:
    """What is known of a task so far."""

    def __init__(self, task: Task):
        self.task = task
        self.scores: list[Score] = []
        self.shares: dict[Size, list[float]] = defaultdict(list)

    def jobs(self) -> Iterator[tuple[workers.Job, Callable[[Any], None]]]:
        """The task's jobs, each with what takes its result."""
        for request in self.task.attention_requests():
            yield (_share, (request,)), self.shares[request.size].extend
        for request in self.task.requests():
            probe = self.task.probe and 0 in request.seeds
            yield (_score, (request, tuple(self.task.methods), probe)), self.scores.extend

    @property
    def is_complete(self) -> bool:
        task = self.task
        whole = len(task.sizes) * len(task.prompts) * task.seeds * len(task.methods)
        shares = sum(map(len, self.shares.values()))
        return len(self.scores) == whole and shares == len(task.sizes) * len(task.prompts)

    def result(self, environment: Environment) -> Result | None:
        """The seeds that are complete; None where none is."""
        scores = complete(self.task, self.scores)
        if not scores:
            return None
        effective_keys = {size: fmean(self.shares[size] or [nan]) for size in self.task.sizes}
        return Result(environment, self.task.sampling, tuple(scores), effective_keys)


def methods(names: Sequence[str] | None) -> list[str]:
    """The methods to compare, dense first; the published ones where none is named.

    Raises:
        SettingsError: a name is unknown.
    """
    check_names(names or (), METHODS)
    return list(dict.fromkeys([DENSE, *names])) if names else list(PUBLISHED)


def run(task: Task, count: int, folder: Path, name: str) -> None:
    """Makes and scores all images, prints the tables and writes JSON and plot."""
    from benchmarks.fidelity import plot, report

    figures, drawing = output.files(folder, name, "json", "png")
    (result,) = perform([task], count, figures)
    plot.save(result, drawing)
    print(f"{report.text(result)}\n\n{figures}\n{drawing}")


def perform(tasks: Sequence[Task], count: int, file: Path) -> list[Result]:
    """Does the tasks with so many workers and returns their results. The file is written whenever a further seed of a
    task is complete, so that a run which is ended early leaves what it had."""
    from tqdm import tqdm

    _prepare()
    environment = describe(_model.unet)  # which is a worker's, too
    progress = [Progress(task) for task in tasks]
    jobs, takers = zip(*itertools.chain.from_iterable(each.jobs() for each in progress), strict=True)
    written = 0
    for number, value in tqdm(workers.run(jobs, count, _prepare), total=len(jobs), unit="batch", smoothing=0):
        takers[number](value)
        results = [result for each in progress if (result := each.result(environment))]
        if (found := sum(len(result.scores) for result in results)) > written:
            written = found
            write(results, file)
            kept.text = _what_is_kept(progress, results, file)
    results = [result for each in progress if (result := each.result(environment))]
    write(results, file)
    return results


def _what_is_kept(progress: Sequence[Progress], results: Sequence[Result], file: Path) -> str:
    if len(progress) == 1:
        return f"{file} has {results[0].seeds} of {progress[0].task.seeds} seeds"
    return f"{file} has {sum(each.is_complete for each in progress)} of {len(progress)} parts complete"


def complete(task: Task, scores: Iterable[Score]) -> list[Score]:
    """The scores of those seeds that every size, prompt and method has."""
    found = list(scores)
    whole = len(task.sizes) * len(task.prompts) * len(task.methods)
    counts = {seed: sum(each.seed == seed for each in found) for seed in range(task.seeds)}
    return [each for each in found if counts[each.seed] == whole]


_model: TinyModel


def _prepare() -> None:
    """One thread, and the model: what every process needs once."""
    global _model
    torch.set_num_threads(1)
    _model = load()


def _score(request: Request, names: Sequence[str], probe: bool) -> list[Score]:
    return score(_model, request, names, probe)


def _share(request: Request) -> list[float]:
    return effective_share(_model, request)
