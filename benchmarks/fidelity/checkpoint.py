"""The command `fidelity --pipeline`: makes and scores images of a checkpoint one by one, on one device.

Every image is written, and every score is recorded as soon as it is known.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks import output
from benchmarks.environment import Environment, describe
from benchmarks.fidelity.attention import effective_share
from benchmarks.fidelity.record import Record
from benchmarks.fidelity.report import label
from benchmarks.fidelity.results import Result, write
from benchmarks.fidelity.run import Task
from benchmarks.fidelity.scores import Score, if_it_fits, score
from benchmarks.interrupt import kept
from benchmarks.sampling import ImageModel, Request


def run(image_model: ImageModel, model: str, task: Task, folder: Path, name: str) -> Result:
    """Makes and scores the images that are not yet there, prints the tables, and writes JSON and plot.

    Args:
        model: the checkpoint's name.

    Raises:
        SettingsError: a file cannot be written, or the folder has images that were made under other conditions.
    """
    from benchmarks.fidelity import plot, report

    json_path, plot_path = output.files(folder, name, "json", "png")
    images = folder / name
    output.check(images / "progress.jsonl")
    environment = describe(image_model.unet)
    record = Record(images / "progress.jsonl", _conditions(model, task, environment))
    _perform(image_model, task, record)
    result = _result(record, task, environment, model)
    write([result], json_path)
    plot.save(result, plot_path)
    print(f"{report.text(result)}\n\n{json_path}\n{plot_path}\n{images}")
    return result


def _conditions(model: str, task: Task, environment: Environment) -> dict[str, Any]:
    """What has to be equal in all images of a run. Prompts, seeds, sizes and methods may be added to one."""
    measured = asdict(environment)
    del measured["date"]
    return {"model": model, **asdict(task.sampling), **measured}


def _perform(image_model: ImageModel, task: Task, record: Record) -> None:
    from tqdm import tqdm

    requests, attention = list(task.requests()), list(task.attention_requests())
    total = len(attention) + len(requests) * len(task.methods)
    missing_shares = [request for request in attention if (request.prompt, request.size) not in record.shares]
    missing = {index: _missing(request, task, record) for index, request in enumerate(requests)}
    done = total - len(missing_shares) - sum(map(len, missing.values()))
    with tqdm(total=total, initial=done, unit="image", smoothing=0) as bar:

        def advance(request: Request, what: str) -> None:
            bar.set_description_str(f"{label(request.size)} {what}")
            bar.update()
            kept.text = f"{record.path.parent} has {bar.n} of {total} images; the same command goes on there"

        for request in missing_shares:
            record.add_share(request, _share(image_model, request))
            advance(request, "dense, its attention")
        for index, request in enumerate(requests):
            for method in _scored(image_model, request, missing[index], task.probed_in(request), record):
                advance(request, method)


def _missing(request: Request, task: Task, record: Record) -> list[str]:
    return [
        method
        for method in task.methods
        if not all((method, request.prompt, seed, request.size) in record.scores for seed in request.seeds)
    ]


def _share(image_model: ImageModel, request: Request) -> float:
    share = if_it_fits(lambda: effective_share(image_model, request)[0])
    return math.nan if share is None else share


def _scored(
    image_model: ImageModel, request: Request, methods: list[str], probed: Sequence[float], record: Record
) -> Iterator[str]:
    """Makes a request's images, and yields the methods as their images are written and their scores recorded."""
    if not methods:
        return
    for scored in score(image_model, request, methods, probed):
        for each, image in zip(scored.scores, scored.images, strict=False):
            _save(image, record.path.parent / _file_name(each))
        record.add_scores(scored.scores)
        yield scored.scores[0].method


def _save(image: Any, path: Path) -> None:
    from PIL import Image

    Image.fromarray(np.round(image * 255).astype(np.uint8)).save(path)


def _file_name(score: Score) -> str:
    return f"{label(score.size)} {_plain(score.prompt)} {score.seed} {_plain(score.method)}.png"


def _plain(text: str) -> str:
    """A text as a part of a file's name."""
    return re.sub(r"[^\w.=-]+", "-", text).strip("-")[:60]


def _result(record: Record, task: Task, environment: Environment, model: str) -> Result:
    """The result of this task; the record may have more."""
    images = product(task.methods, task.prompts, range(task.seeds), task.sizes)
    scores = tuple(record.scores[image] for image in images)
    shares = {
        size: [share for prompt in task.prompts if not math.isnan(share := record.shares[prompt, size])]
        for size in task.sizes
    }
    effective_keys = {size: fmean(values) if values else math.nan for size, values in shares.items()}
    return Result(environment, task.sampling, scores, effective_keys, model)
