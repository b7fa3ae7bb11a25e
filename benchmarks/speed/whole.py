"""The command `speed --pipeline`: times whole images of a checkpoint; text encoder, sampling loop and VAE apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from benchmarks import output
from benchmarks.environment import describe, if_it_fits, now
from benchmarks.fidelity.report import label
from benchmarks.interrupt import kept
from benchmarks.method import DENSE, OUT_OF_MEMORY, Method
from benchmarks.pipeline.image_model import PipelineImageModel
from benchmarks.sampling import Request
from benchmarks.speed.report import spread
from benchmarks.speed.results import Spread
from todo.timing import rotated, wait

TEXT, LOOP, VAE, IMAGE = "text encoder", "loop", "VAE", "image"
PARTS = (TEXT, LOOP, VAE)
_HEAD = ("size", "method", *(f"{part}, s" for part in (*PARTS, IMAGE)), "speed-up of the loop", "of the image")

_Value = TypeVar("_Value")
_Rounds = list[dict[str, float] | None]
"""Of each round the seconds by part; None for an image that did not fit in memory."""


def run(
    image_model: PipelineImageModel,
    model: str,
    requests: Sequence[Request],
    methods: Sequence[Method],
    rounds: int,
    path: Path,
) -> None:
    """Times each request's images with each method in turn, and prints a table. The JSON is written after each round,
    so that an interrupted run keeps its results.

    Args:
        model: the checkpoint's name.
        requests: one for each size.
        methods: dense first.
        path: of the JSON.
    """
    from tqdm import tqdm

    sampling, batch, environment = requests[0].sampling, len(requests[0].seeds), describe(image_model.unet)
    result: dict[str, Any] = {"model": model, "environment": asdict(environment), "sampling": asdict(sampling)}
    at_once = "an image" if batch == 1 else f"{batch} images"
    print(f"{model} · {at_once} at once · {sampling} · {environment.where} · {environment.date}", flush=True)
    seconds: list[dict[str, _Rounds]] = [{method.name: [] for method in methods} for _ in requests]
    sizes = [{"size": request.size, "seconds": each} for request, each in zip(requests, seconds, strict=True)]
    with tqdm(total=len(requests) * (rounds + 1) * len(methods), unit="image", smoothing=0) as bar:
        for request, by_method in zip(requests, seconds, strict=True):
            for number in range(-1, rounds):
                warms_up = number < 0
                asked = replace(request, sampling=replace(sampling, steps=1)) if warms_up else request
                for method in rotated(methods, max(number, 0)):
                    bar.set_description_str(f"{label(request.size)} {method.name}")
                    found = if_it_fits(partial(_time, image_model, asked, method))
                    bar.update()
                    if not warms_up:
                        by_method[method.name].append(found)
                if not warms_up:
                    output.write_json({**result, "batch": batch, "sizes": sizes}, path)
                    kept.text = f"{path} has {number + 1} of {rounds} rounds at {label(request.size)}"
    groups = [
        [[label(request.size), name, *_cells(by_method[name], by_method[DENSE])] for name in by_method]
        for request, by_method in zip(requests, seconds, strict=True)
    ]
    print(f"\n{output.table(_HEAD, groups)}\n\n{path}")


def _cells(rounds: _Rounds, dense: _Rounds) -> list[str]:
    """Medians and quartiles over the rounds: seconds by part and of the image, and dense / method."""
    if None in rounds:
        return [OUT_OF_MEMORY, *[""] * (len(_HEAD) - 3)]

    def times(of: _Rounds, part: str) -> list[float]:
        return [sum(each.values()) if part == IMAGE else each[part] for each in of if each]

    parts = [spread(Spread.of(times(rounds, part)), "") for part in (*PARTS, IMAGE)]
    ratios = [[a / b for a, b in zip(times(dense, part), times(rounds, part), strict=False)] for part in (LOOP, IMAGE)]
    return [*parts, *(spread(Spread.of(each)) for each in ratios)]


def _time(image_model: PipelineImageModel, request: Request, method: Method) -> dict[str, float]:
    """Makes a request's images and returns the seconds by part. Applying and removing the method is not timed."""
    clock = now(image_model.device)

    def timed(part: str, make: Callable[[], _Value]) -> _Value:
        wait(image_model.device)
        start = clock()
        value = make()
        wait(image_model.device)
        seconds[part] = clock() - start
        return value

    seconds: dict[str, float] = {}
    with method.apply(image_model.unet, image_model.latent_size(request.size)) as patch:
        embeddings = timed(TEXT, lambda: image_model.encode(request))
        latents = timed(LOOP, lambda: image_model.denoise(request, embeddings, patch))
        timed(VAE, lambda: image_model.decode(latents))
    return seconds
