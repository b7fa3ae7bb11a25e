"""The command `fidelity`: distributes the work over processes, shows progress and writes results."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from benchmarks import output, workers
from benchmarks.environment import Environment, describe
from benchmarks.fidelity.attention import effective_share
from benchmarks.fidelity.methods import METHODS, PUBLISHED
from benchmarks.fidelity.results import Result, Size, write
from benchmarks.fidelity.scores import PROBED, Score, score
from benchmarks.interrupt import kept
from benchmarks.method import DENSE, check_names
from benchmarks.sampling import Request, Sampling
from benchmarks.tiny.model import load
from benchmarks.tiny.sampler import TinyImageModel

_BATCH = 4
"""Images that the embedded model makes together."""

_ATTENTION_STEPS = 5
"""So many steps are enough to measure how many keys count, which hardly depends on the number of steps."""


@dataclass(frozen=True)
class Task:
    """The images to make and the methods to compare.

    Attributes:
        sizes: (height, width) in pixels.
        seeds: images of each prompt at each size.
        probed: the sampling progress at which single calls are compared, too, in the images of the first batch of
            seeds.
        perceptual: whether perceptual distances are measured.
        batch: images made together.
    """

    sizes: Sequence[Size]
    prompts: Sequence[str]
    seeds: int
    methods: Sequence[str]
    sampling: Sampling
    probed: Sequence[float] = PROBED
    perceptual: bool = True
    batch: int = _BATCH

    def requests(self) -> Iterator[Request]:
        """The images in batches. Seeds change last, so that an interrupted run has complete seeds."""
        for first in range(0, self.seeds, self.batch):
            seeds = tuple(range(first, min(first + self.batch, self.seeds)))
            for prompt, size in itertools.product(self.prompts, sorted(self.sizes, reverse=True)):
                yield Request(prompt, seeds, size, self.sampling)

    def attention_requests(self) -> Iterator[Request]:
        """The images in which attention is measured: one of each prompt and size, sampled in few steps."""
        sampling = replace(self.sampling, steps=min(self.sampling.steps, _ATTENTION_STEPS))
        for prompt, size in itertools.product(self.prompts, self.sizes):
            yield Request(prompt, (0,), size, sampling)

    def probed_in(self, request: Request) -> Sequence[float]:
        """The sampling progress at which single calls are compared in the images of a request."""
        return self.probed if 0 in request.seeds else ()


class Progress:
    """A task, and its results so far."""

    def __init__(self, task: Task):
        self.task = task
        self.scores: list[Score] = []
        self.shares: dict[Size, list[float]] = defaultdict(list)

    def jobs(self) -> Iterator[tuple[workers.Job, Callable[[Any], None]]]:
        """The task's jobs, each with the function that receives its result."""
        for request in self.task.attention_requests():
            yield (_share, (request,)), self.shares[request.size].extend
        for request in self.task.requests():
            arguments = request, tuple(self.task.methods), self.task.probed_in(request), self.task.perceptual
            yield (_score, arguments), self.scores.extend

    @property
    def is_complete(self) -> bool:
        task = self.task
        images = len(task.sizes) * len(task.prompts)
        shares = sum(map(len, self.shares.values()))
        return len(self.scores) == images * task.seeds * len(task.methods) and shares == images

    def result(self, environment: Environment) -> Result | None:
        """The result for the seeds that are complete; None if there are none, or before attention was measured."""
        scores = complete(self.task, self.scores)
        if not scores or not all(self.shares[size] for size in self.task.sizes):
            return None
        effective_keys = {size: fmean(self.shares[size]) for size in self.task.sizes}
        return Result(environment, self.task.sampling, tuple(scores), effective_keys)


def methods(names: Sequence[str] | None, default: Sequence[str] = PUBLISHED) -> list[str]:
    """The names of the methods to compare, dense first.

    Raises:
        SettingsError: a name is unknown.
    """
    check_names(names or (), METHODS)
    return list(dict.fromkeys([DENSE, *names])) if names else list(default)


def run(task: Task, processes: int, folder: Path, name: str) -> None:
    """Makes and scores all images, prints the tables, and writes JSON and plot."""
    from benchmarks.fidelity import plot, report

    json_path, plot_path = output.files(folder, name, "json", "png")
    (result,) = perform([task], processes, json_path)
    plot.save(result, plot_path)
    print(f"{report.text(result)}\n\n{json_path}\n{plot_path}")


def perform(tasks: Sequence[Task], processes: int, path: Path) -> list[Result]:
    """Performs the tasks in `processes` processes and returns their results.

    The JSON at `path` is written whenever another seed of a task is complete, so that an interrupted run keeps its
    results.
    """
    from tqdm import tqdm

    _prepare()
    environment = describe(_image_model.unet)  # the workers' environment is the same
    progress = [Progress(task) for task in tasks]
    jobs, receivers = zip(*itertools.chain.from_iterable(part.jobs() for part in progress), strict=True)
    written = 0
    for index, value in tqdm(workers.run(jobs, processes, _prepare), total=len(jobs), unit="batch", smoothing=0):
        receivers[index](value)
        results = [result for part in progress if (result := part.result(environment))]
        if (count := sum(len(result.scores) for result in results)) > written:
            written = count
            write(results, path)
            kept.text = _kept_text(progress, results, path)
    results = [result for part in progress if (result := part.result(environment))]
    write(results, path)
    return results


def _kept_text(progress: Sequence[Progress], results: Sequence[Result], path: Path) -> str:
    if len(progress) == 1:
        return f"{path} has {results[0].seeds} of {progress[0].task.seeds} seeds"
    return f"{path} has {sum(part.is_complete for part in progress)} of {len(progress)} parts complete"


def complete(task: Task, scores: Sequence[Score]) -> list[Score]:
    """The scores of the seeds for which every size, prompt and method has one."""
    per_seed = len(task.sizes) * len(task.prompts) * len(task.methods)
    counts = Counter(score.seed for score in scores)
    return [score for score in scores if counts[score.seed] == per_seed]


_image_model: TinyImageModel


def _prepare() -> None:
    """Sets up a process: one thread, and the model."""
    global _image_model
    torch.set_num_threads(1)
    _image_model = TinyImageModel(load())


def _score(request: Request, names: Sequence[str], probed: Sequence[float], perceptual: bool) -> list[Score]:
    return [each for scored in score(_image_model, request, names, probed, perceptual) for each in scored.scores]


def _share(request: Request) -> list[float]:
    return effective_share(_image_model, request)
