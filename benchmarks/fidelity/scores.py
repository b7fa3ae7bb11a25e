"""Makes images of a prompt with every method from the same noise, and scores them against the dense ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import nan
from typing import Any, TypeVar

import torch
from torch import Tensor

from benchmarks import similarity
from benchmarks.environment import now
from benchmarks.fidelity.calls import Call, recorded, relative_error, shared_part
from benchmarks.fidelity.methods import METHODS
from benchmarks.method import DENSE, Method
from benchmarks.perceptual import flip, lpips
from benchmarks.sampling import ImageModel, Request
from todo.timing import is_out_of_memory, wait

PROBED = (0.1, 0.4, 0.8)
"""The sampling progress at which single calls along the dense trajectory are compared by default."""

_MERGING_SEED = 0
"""Token merging draws from torch's default generator, so a seed makes it repeatable."""

_Made = TypeVar("_Made")


@dataclass(frozen=True)
class Score:
    """One image made with a method, compared with the dense one. What is not known is NaN: the comparison where the
    dense image or the method's did not fit in memory, the seconds where the method's did not.

    Attributes:
        size: (height, width) in pixels.
        mse: mean squared error of the final latent.
        psnr: of the image, in dB.
        ssim: of the image.
        detail: energy of fine detail relative to the dense image's.
        errors: of single calls along the dense trajectory, at the sampling progress that was probed: norm of the
            difference over the dense norm. Empty if single calls were not compared.
        seconds: of the whole sampling loop, over the number of images in its batch.
        high_pass: of the image itself, as `similarity.high_pass` defines it.
        lpips, flip: perceptual distances of the image, as `perceptual` defines them.
        shared: how much of the errors of the probed calls is the same in all of them, as `calls.shared_part` defines
            it.
    """

    method: str
    prompt: str
    seed: int
    size: tuple[int, int]
    mse: float
    psnr: float
    ssim: float
    detail: float
    errors: tuple[float, ...]
    seconds: float
    high_pass: float = nan
    lpips: float = nan
    flip: float = nan
    shared: float = nan

    @property
    def image_mse(self) -> float:
        """Mean squared error of the image, whose values are in [0, 1]."""
        return 10.0 ** (-self.psnr / 10)


@dataclass(frozen=True)
class Scored:
    """A method's images for a request, in the order of its seeds. There are none if they did not fit in memory."""

    scores: list[Score]
    images: list[Any]


@dataclass(frozen=True)
class _Batch:
    latents: Tensor
    images: list[Any]
    seconds: float


def score(
    image_model: ImageModel,
    request: Request,
    methods: Sequence[str],
    probed: Sequence[float] = PROBED,
    perceptual: bool = True,
) -> Iterator[Scored]:
    """Scores each method for each image of the request. Dense images are always made, to compare with.

    Args:
        methods: names.
        probed: the sampling progress at which single calls are compared, too.
        perceptual: whether perceptual distances are measured, which take longer than the others.

    Yields:
        Each method's scores and images, in the methods' order.
    """
    sampling = request.sampling
    steps = [int(progress * sampling.steps) for progress in probed]
    calls: dict[int, Call] = {}

    def make_dense() -> _Batch:
        image_model.sample(replace(request, sampling=replace(sampling, steps=1)))  # warms up
        with recorded(image_model.unet, sampling, steps, calls):
            return _make(image_model, request, METHODS[DENSE])

    dense = if_it_fits(make_dense)
    for name in methods:
        method = METHODS[name]
        batch = dense if name == DENSE else if_it_fits(partial(_make, image_model, request, method))
        scores = [_score(request, name, index, batch, dense, perceptual) for index in range(len(request.seeds))]
        if batch and dense and calls:
            scores = _with_errors(scores, image_model, request, method, [calls[step] for step in steps])
        yield Scored(scores, batch.images if batch else [])


def if_it_fits(make: Callable[[], _Made]) -> _Made | None:
    """What `make` returns; None if the memory does not suffice."""
    try:
        return make()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    # Only here, since until the handler ends the error's frames keep their tensors alive.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


def _make(image_model: ImageModel, request: Request, method: Method) -> _Batch:
    clock = now(image_model.device)
    torch.manual_seed(_MERGING_SEED)
    with method.apply(image_model.unet, image_model.latent_size(request.size)) as patch:
        wait(image_model.device)
        start = clock()
        latents = image_model.sample(request, patch)
        wait(image_model.device)
        seconds = (clock() - start) / len(request.seeds)
    return _Batch(latents, image_model.decode(latents), seconds)


@torch.inference_mode()
def _with_errors(
    scores: list[Score], image_model: ImageModel, request: Request, method: Method, calls: Sequence[Call]
) -> list[Score]:
    """The scores with the errors of recorded calls."""
    torch.manual_seed(_MERGING_SEED)
    with method.apply(image_model.unet, image_model.latent_size(request.size)) as patch:
        vectors = [relative_error(image_model.unet, request, call, patch) for call in calls]
    errors, shared = torch.stack([vector.norm(dim=1) for vector in vectors], dim=1).tolist(), shared_part(vectors)
    return [
        replace(each, errors=tuple(errors[index]), shared=float(shared[index])) for index, each in enumerate(scores)
    ]


def _score(
    request: Request, method: str, index: int, batch: _Batch | None, dense: _Batch | None, perceptual: bool
) -> Score:
    alone = Score(
        method=method,
        prompt=request.prompt,
        seed=request.seeds[index],
        size=request.size,
        mse=nan,
        psnr=nan,
        ssim=nan,
        detail=nan,
        errors=(),
        seconds=batch.seconds if batch else nan,
        high_pass=similarity.high_pass(batch.images[index]) if batch else nan,
    )
    if not batch or not dense:
        return alone
    pair = batch.images[index], dense.images[index]
    return replace(
        alone,
        mse=float((batch.latents[index].float() - dense.latents[index].float()).square().mean()),
        psnr=similarity.psnr(*pair),
        ssim=similarity.ssim(*pair),
        detail=similarity.detail(*pair),
        lpips=lpips(*pair) if perceptual else nan,
        flip=flip(*pair) if perceptual else nan,
    )
