"""The command `speed --pipeline`: times whole images of a checkpoint; text encoder, sampling loop and VAE apart."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import torch

from benchmarks import output
from benchmarks.environment import Environment, describe, now
from benchmarks.interrupt import kept
from benchmarks.method import DENSE, Method
from benchmarks.pipeline.image_model import PipelineImageModel
from benchmarks.sampling import Request, Sampling
from benchmarks.speed.report import OUT_OF_MEMORY
from todo.timing import is_out_of_memory, rotated, wait

TEXT, LOOP, VAE, IMAGE = "text encoder", "loop", "VAE", "image"
PARTS = (TEXT, LOOP, VAE)

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Images:
    """One size.

    Attributes:
        seconds: by method, of each round the seconds by part. None for an image that did not fit in memory.
    """

    size: tuple[int, int]
    seconds: dict[str, list[dict[str, float] | None]] = field(default_factory=dict)

    def fits(self, method: str) -> bool:
        return None not in self.seconds[method]

    def medians(self, method: str) -> dict[str, float]:
        """Median seconds by part, and of the whole image."""
        rounds = [each for each in self.seconds[method] if each]
        parts = {part: statistics.median(each[part] for each in rounds) for part in PARTS}
        return {**parts, IMAGE: statistics.median(sum(each.values()) for each in rounds)}


@dataclass(frozen=True)
class Result:
    """A run.

    Attributes:
        model: the checkpoint's name.
        batch: images made together.
    """

    model: str
    environment: Environment
    sampling: Sampling
    batch: int
    sizes: list[Images] = field(default_factory=list)


def run(
    image_model: PipelineImageModel,
    model: str,
    requests: Sequence[Request],
    methods: Sequence[Method],
    rounds: int,
    path: Path,
) -> Result:
    """Times each request's images with each method in turn, and prints a table. The JSON is written after each round,
    so that an interrupted run keeps its results.

    Args:
        model: the checkpoint's name.
        requests: one for each size.
        methods: dense first.
        path: of the JSON.
    """
    from tqdm import tqdm

    result = Result(model, describe(image_model.unet), requests[0].sampling, len(requests[0].seeds))
    print(about(result), flush=True)
    with tqdm(total=len(requests) * (rounds + 1) * len(methods), unit="image", smoothing=0) as bar:

        def attempt(request: Request, method: Method) -> dict[str, float] | None:
            bar.set_description_str(f"{label(request.size)} {method.name}")
            seconds = _time_if_it_fits(image_model, request, method)
            bar.update()
            return seconds

        for request in requests:
            images = Images(request.size, {method.name: [] for method in methods})
            result.sizes.append(images)
            for method in methods:  # warms up
                attempt(replace(request, sampling=replace(request.sampling, steps=1)), method)
            for number in range(rounds):
                for method in rotated(methods, number):
                    images.seconds[method.name].append(attempt(request, method))
                output.write_json(asdict(result), path)
                kept.text = f"{path} has {number + 1} of {rounds} rounds at {label(request.size)}"
    print(f"\n{output.table(*_table(result))}\n\n{path}")
    return result


def label(size: tuple[int, int]) -> str:
    """Width and height of an image's (height, width), as WebUIs write them."""
    return f"{size[1]}×{size[0]}"


def _time_if_it_fits(image_model: PipelineImageModel, request: Request, method: Method) -> dict[str, float] | None:
    try:
        return _time(image_model, request, method)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    # Only here, since until the handler ends the error's frames keep their tensors alive.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


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


def about(result: Result) -> str:
    """What is measured, and on what machine."""
    images = "an image" if result.batch == 1 else f"{result.batch} images"
    environment = result.environment
    return f"{result.model} · {images} at once · {result.sampling} · {environment.where} · {environment.date}"


def _table(result: Result) -> tuple[list[str], list[list[list[str]]]]:
    """The head, and the rows by size: medians over the rounds in seconds, and dense time over a method's."""
    head = ["size", "method", *(f"{part}, s" for part in PARTS), "image, s", "speed-up of the loop", "of the image"]
    return head, [[_row(images, method) for method in images.seconds] for images in result.sizes]


def _row(images: Images, method: str) -> list[str]:
    name = [label(images.size), method]
    if not images.fits(method):
        return [*name, OUT_OF_MEMORY, *[""] * (len(PARTS) + 2)]
    medians = images.medians(method)
    ratios = ["", ""]
    if images.fits(DENSE):
        dense = images.medians(DENSE)
        ratios = [f"×{dense[part] / medians[part]:.2f}" for part in (LOOP, IMAGE)]
    return [*name, *(f"{medians[part]:.2f}" for part in (*PARTS, IMAGE)), *ratios]
