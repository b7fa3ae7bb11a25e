"""Makes and scores images, of the embedded model or of a checkpoint, and records each as soon as it is made. The same
command goes on where it was."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import output
from benchmarks.environment import describe
from benchmarks.fidelity.methods import METHODS, PUBLISHED, Layout
from benchmarks.fidelity.results import Result, Size, made_by, read, write
from benchmarks.fidelity.scores import Score, layout, score
from benchmarks.interrupt import kept
from benchmarks.method import DENSE, check_names
from benchmarks.sampling import ImageModel, Request, Sampling
from benchmarks.tiny.model import load
from benchmarks.tiny.sampler import TinyImageModel
from todo import SettingsError

_SECONDS = 1.0
"""The file is written at most this often."""


@dataclass(frozen=True)
class Task:
    """The images to make and the methods to compare.

    Attributes:
        sizes: (height, width) in pixels.
        seeds: images of each prompt at each size.
        perceptual: whether perceptual distances are measured.
    """

    sizes: Sequence[Size]
    prompts: Sequence[str]
    seeds: int
    methods: Sequence[str]
    sampling: Sampling
    perceptual: bool = True


@dataclass(frozen=True)
class Job:
    """One image, to be made with each of the methods."""

    request: Request
    methods: tuple[str, ...]
    perceptual: bool


def methods(names: Sequence[str] | None, default: Sequence[str] = PUBLISHED) -> list[str]:
    """The names of the methods to compare, dense first.

    Raises:
        SettingsError: a name is unknown.
    """
    check_names(names or (), METHODS)
    return list(dict.fromkeys([DENSE, *names])) if names else list(default)


def run(
    task: Task, folder: Path, name: str, processes: int = 1, image_model: ImageModel | None = None, model: str = ""
) -> Result:
    """Makes and scores the images that are not yet there, prints the tables, and writes JSON and plot; of a checkpoint
    all images, too.

    Args:
        image_model: of a checkpoint; None for the embedded model.
        model: the checkpoint's name.

    Raises:
        SettingsError: a file cannot be written, or the JSON has a run under other conditions.
    """
    from benchmarks.fidelity import plot, report

    json_path, plot_path = output.files(folder, name, "json", "png")
    images = folder / name if image_model else None
    (run,) = perform([task], json_path, processes, image_model, model, images)
    wanted = (task.sizes, task.prompts, range(task.seeds), task.methods)
    scores = {(score.size, score.prompt, score.seed, score.method): score for score in run.scores}
    result = replace(run, scores=tuple(scores[image] for image in product(*wanted)))  # the file may have more
    plot.save(result, plot_path)
    print("\n".join([report.text(result), "", *map(str, filter(None, (json_path, plot_path, images)))]))
    return result


def perform(
    tasks: Sequence[Task],
    path: Path,
    processes: int = 1,
    image_model: ImageModel | None = None,
    model: str = "",
    images: Path | None = None,
) -> list[Result]:
    """Performs the tasks. The runs are recorded at `path` image by image and returned, one for each sampling.

    Args:
        processes: with one thread each, for the embedded model.
        images: the folder to write the images to.
    """
    from tqdm import tqdm

    if images:
        output.check(images / "image.png")
    image_model = image_model or begin()
    record = _Record(path, Result(describe(image_model.unet), made_by(), model, Sampling()))
    jobs = list(dict.fromkeys(job for task in tasks for job in _jobs(task)))
    missing = [rest for job in jobs if (rest := record.missing(job)).methods]
    total, to_do = (sum(len(job.methods) for job in each) for each in (jobs, missing))
    with tqdm(total=total, initial=total - to_do, unit="image", smoothing=0) as bar:
        for sampling, score, pixels in _made(missing, processes, image_model):
            if images and pixels is not None:
                _save(pixels, images / _file_name(score))
            record.add(sampling, score, layout(image_model, score.size))
            bar.update()
            kept.text = f"{path} has {bar.n} of {total} images; the same command goes on there"
    record.write()
    return [record.runs[sampling] for sampling in dict.fromkeys(task.sampling for task in tasks)]


def _jobs(task: Task) -> Iterator[Job]:
    """Seeds change last, so that an interrupted run has complete seeds."""
    for seed, prompt, size in product(range(task.seeds), task.prompts, sorted(task.sizes, reverse=True)):
        yield Job(Request(prompt, (seed,), size, task.sampling), tuple(task.methods), task.perceptual)


class _Record:
    """The file of runs, and what it has so far.

    Attributes:
        runs: by sampling.
    """

    def __init__(self, path: Path, empty: Result):
        """Takes over the runs that the file has.

        Args:
            empty: a run without images, under the present conditions.

        Raises:
            SettingsError: those in the file were made under other conditions.
        """
        self.path, self._empty, self._written = path, empty, 0.0
        self.runs = {run.sampling: run for run in read(path)} if path.exists() else {}
        for run in self.runs.values():
            for (name, old), new in zip(_conditions(run).items(), _conditions(empty).values(), strict=True):
                if old != new:
                    raise SettingsError("name", f"name: {path.name!r} has images with {name} {old!r}, not {new!r}; "
                                        "choose another name, or delete the file")  # fmt: skip

    def missing(self, job: Job) -> Job:
        """The job with the methods that are still to be done."""
        run = self.runs.get(job.request.sampling, self._empty)
        image = (job.request.prompt, *job.request.seeds, job.request.size)
        done = {score.method for score in run.scores if (score.prompt, score.seed, score.size) == image}
        return replace(job, methods=tuple(method for method in job.methods if method not in done))

    def add(self, sampling: Sampling, score: Score, layout: Layout) -> None:
        run = self.runs.get(sampling, replace(self._empty, sampling=sampling))
        layouts = {**run.layouts, score.size: layout}
        self.runs[sampling] = replace(run, scores=(*run.scores, score), layouts=layouts)
        if time.monotonic() > self._written + _SECONDS:
            self.write()

    def write(self) -> None:
        write(list(self.runs.values()), self.path)
        self._written = time.monotonic()


def _conditions(run: Result) -> dict[str, Any]:
    """What has to be equal in all runs of a file. Samplings, prompts, seeds, sizes and methods may be added to one."""
    conditions = {"ToDo": run.code, "model": run.model, **asdict(run.environment)}
    del conditions["date"]
    return conditions


def _save(pixels: Any, path: Path) -> None:
    from PIL import Image

    Image.fromarray(np.round(pixels * 255).astype(np.uint8)).save(path)


def _file_name(score: Score) -> str:
    height, width = score.size
    prompt, method = (re.sub(r"[^\w.=-]+", "-", text).strip("-")[:60] for text in (score.prompt, score.method))
    return f"{width}×{height} {prompt} {score.seed} {method}.png"


_Made = Iterator[tuple[Sampling, Score, Any]]


def _made(jobs: Sequence[Job], processes: int, image_model: ImageModel) -> _Made:
    """The scores and images of all jobs, as they are made. Images come from this process only."""
    if processes == 1:
        for job in jobs:
            for found, pixels in _scored(image_model, job):
                yield job.request.sampling, found, pixels
        return
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _begin_in_worker)
    try:
        # Ctrl-C in a terminal reaches the workers, too. They start with the first job, and inherit that it is ignored.
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        futures = {pool.submit(_scores, job): job.request.sampling for job in jobs}
        signal.signal(signal.SIGINT, handler)
        for future in as_completed(futures):
            for found in future.result():
                yield futures[future], found, None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _scored(image_model: ImageModel, job: Job) -> Iterator[tuple[Score, Any]]:
    return score(image_model, job.request, [METHODS[name] for name in job.methods], job.perceptual)


_image_model: TinyImageModel
"""A worker's."""


def _scores(job: Job) -> list[Score]:
    return [found for found, _ in _scored(_image_model, job)]


def _begin_in_worker() -> None:
    global _image_model
    _image_model = begin()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def begin() -> TinyImageModel:
    """The embedded model, on one thread."""
    torch.set_num_threads(1)
    return TinyImageModel(load())


def _end_with_parent() -> None:
    """Ends this worker when the parent has ended, even if it was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
