"""Makes and scores images, of the embedded model or of a checkpoint, and records each as soon as it is made. The same
command goes on where it was."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch

from benchmarks import output
from benchmarks.environment import describe
from benchmarks.fidelity.methods import METHODS, PUBLISHED
from benchmarks.fidelity.results import Result, Size, read, write
from benchmarks.fidelity.scores import Score, layout, score
from benchmarks.interrupt import kept
from benchmarks.method import DENSE, check_names
from benchmarks.sampling import ImageModel, Request, Sampling
from benchmarks.tiny.model import load
from benchmarks.tiny.sampler import TinyImageModel
from todo import SettingsError


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

    def jobs(self) -> Iterator[Job]:
        """Seeds change last, so that an interrupted run has complete seeds."""
        for seed, prompt, size in product(range(self.seeds), self.prompts, sorted(self.sizes, reverse=True)):
            yield Request(prompt, (seed,), size, self.sampling), tuple(self.methods), self.perceptual


Job = tuple[Request, tuple[str, ...], bool]
"""One image, to be made with each of the methods, and whether perceptual distances are measured."""

Made = Iterator[tuple[Sampling, Score, Any]]
"""Images with their scores. The image is None if it did not fit in memory, or comes from another process."""


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
    empty = Result(describe(image_model.unet), model, Sampling())
    runs = _recorded(path, empty)
    jobs = list(dict.fromkeys(job for task in tasks for job in task.jobs()))
    missing = [rest for job in jobs if (rest := _missing(job, runs))[1]]
    total, to_do = (sum(len(methods) for _, methods, _ in each) for each in (jobs, missing))
    with tqdm(total=total, initial=total - to_do, unit="image", smoothing=0) as bar:
        for sampling, found, pixels in _pooled(missing, processes) if processes > 1 else _alone(missing, image_model):
            if images and pixels is not None:
                _save(pixels, images, found)
            run = runs.get(sampling, replace(empty, sampling=sampling))
            runs[sampling] = run.including(found, layout(image_model, found.size))
            write(list(runs.values()), path)
            bar.update()
            kept.text = f"{path} has {bar.n} of {total} images; the same command goes on there"
    return [runs[sampling] for sampling in dict.fromkeys(task.sampling for task in tasks)]


def _recorded(path: Path, empty: Result) -> dict[Sampling, Result]:
    """The runs that a file has, by sampling. Samplings, prompts, seeds, sizes and methods may be added to it.

    Args:
        empty: a run without images, under the present conditions.

    Raises:
        SettingsError: it has images that were made under other conditions.
    """
    runs = read(path) if path.exists() else []
    for run in runs:
        old, new = (
            {**each.environment.versions, "model": each.model, **asdict(each.environment)} for each in (run, empty)
        )
        for name in old:
            if name != "date" and old[name] != new[name]:
                raise SettingsError("name", f"name: {path.name!r} has images with {name} {old[name]!r}, not "
                                    f"{new[name]!r}; choose another name, or delete the file")  # fmt: skip
    return {run.sampling: run for run in runs}


def _missing(job: Job, runs: dict[Sampling, Result]) -> Job:
    """The job with the methods that are still to be done."""
    request, methods, perceptual = job
    scores = runs[request.sampling].scores if request.sampling in runs else ()
    image = (request.prompt, *request.seeds, request.size)
    done = {score.method for score in scores if (score.prompt, score.seed, score.size) == image}
    return request, tuple(method for method in methods if method not in done), perceptual


def _save(pixels: Any, folder: Path, found: Score) -> None:
    height, width = found.size
    prompt, method = (re.sub(r"[^\w.=-]+", "-", text).strip("-")[:60] for text in (found.prompt, found.method))
    path = folder / f"{width}×{height} {prompt} {found.seed} {method}.png"
    output.image(pixels).save(path)


def _alone(jobs: Sequence[Job], image_model: ImageModel) -> Made:
    """The images of all jobs as they are made, by this process."""
    for request, methods, perceptual in jobs:
        for found, pixels in score(image_model, request, [METHODS[name] for name in methods], perceptual):
            yield request.sampling, found, pixels


def _pooled(jobs: Sequence[Job], processes: int) -> Made:
    """The scores of all jobs as they are made, by several processes."""
    # After Ctrl-C, the process that frees the pool's semaphores would warn of them.
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker")
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _begin_in_worker)
    try:
        # Ctrl-C in a terminal reaches the workers, too. They start with the first job, and inherit that it is ignored.
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        futures = [pool.submit(_in_worker, job) for job in jobs]
        signal.signal(signal.SIGINT, handler)
        for future in as_completed(futures):
            yield from future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


_image_model: TinyImageModel
"""A worker's."""


def _in_worker(job: Job) -> list[tuple[Sampling, Score, None]]:
    return [(sampling, found, None) for sampling, found, _ in _alone([job], _image_model)]


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
