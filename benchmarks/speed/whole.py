"""The command `speed --pipeline`: times whole images of a checkpoint; text encoder, sampling loop and VAE apart."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from benchmarks import output
from benchmarks.environment import describe, if_it_fits, now
from benchmarks.interrupt import kept
from benchmarks.method import DENSE, Method
from benchmarks.pipeline.image_model import PipelineImageModel
from benchmarks.sampling import Request
from benchmarks.speed.report import OUT_OF_MEMORY
from todo.timing import rotated, wait

TEXT, LOOP, VAE, IMAGE = "text encoder", "loop", "VAE", "image"
PARTS = (TEXT, LOOP, VAE)
_HEAD = ("size", "method", *(f"{part}, s" for part in (*PARTS, IMAGE)), "speed-up of the loop", "of the image")

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Images:
    """One size, (height, width) in pixels.

    Attributes:
        seconds: by method, of each round the seconds by part. None for an image that did not fit in memory.
    """

    size: tuple[int, int]
    seconds: dict[str, list[dict[str, float] | None]] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Width and height, as WebUIs write them."""
        return f"{self.size[1]}×{self.size[0]}"

    def medians(self, method: str) -> dict[str, float]:
        """Median seconds by part, and of the whole image; empty if one did not fit in memory."""
        rounds = [each for each in self.seconds[method] if each]
        if len(rounds) < len(self.seconds[method]):
            return {}
        parts = {part: statistics.median(each[part] for each in rounds) for part in PARTS}
        return {**parts, IMAGE: statistics.median(sum(each.values()) for each in rounds)}

    def row(self, method: str) -> list[str]:
        """The cells under `_HEAD`."""
        medians, dense = self.medians(method), self.medians(DENSE)
        if not medians:
            return [self.label, method, OUT_OF_MEMORY, *[""] * (len(_HEAD) - 3)]
        speedups = [f"×{dense[part] / medians[part]:.2f}" if dense else "" for part in (LOOP, IMAGE)]
        return [self.label, method, *(f"{medians[part]:.2f}" for part in (*PARTS, IMAGE)), *speedups]


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
    sizes = [Images(request.size, {method.name: [] for method in methods}) for request in requests]
    with tqdm(total=len(requests) * (rounds + 1) * len(methods), unit="image", smoothing=0) as bar:
        for images, request in zip(sizes, requests, strict=True):
            for number in range(-1, rounds):
                warms_up = number < 0
                asked = replace(request, sampling=replace(sampling, steps=1)) if warms_up else request
                for method in rotated(methods, max(number, 0)):
                    bar.set_description_str(f"{images.label} {method.name}")
                    seconds = if_it_fits(partial(_time, image_model, asked, method))
                    bar.update()
                    if not warms_up:
                        images.seconds[method.name].append(seconds)
                if not warms_up:
                    output.write_json({**result, "batch": batch, "sizes": [asdict(each) for each in sizes]}, path)
                    kept.text = f"{path} has {number + 1} of {rounds} rounds at {images.label}"
    print(f"\n{output.table(_HEAD, [[images.row(name) for name in images.seconds] for images in sizes])}\n\n{path}")


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
