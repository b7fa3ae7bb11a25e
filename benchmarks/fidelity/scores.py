"""Makes images of a prompt with every method from the same noise, and scores them against the dense ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from benchmarks import similarity
from benchmarks.environment import now
from benchmarks.fidelity.methods import METHODS
from benchmarks.method import DENSE, Method
from benchmarks.tiny.model import TinyModel, latent_shape
from benchmarks.tiny.sampler import Call, Request, Sampling, decode, predict, sample

PROBED = (0.1, 0.4, 0.8)
"""The sampling progress at which single calls along the dense trajectory are compared."""

_MERGING_SEED = 0
"""Token merging draws from torch's default generator, so a seed makes it repeatable."""


@dataclass(frozen=True)
class Score:
    """One image made with a method, compared with the dense one.

    Attributes:
        size: (height, width) in pixels.
        mse: mean squared error of the final latent.
        psnr: of the image, in dB.
        ssim: of the image.
        detail: energy of fine detail relative to the dense image's.
        errors: of single calls along the dense trajectory, at `PROBED`: norm of the difference over the dense norm.
            Empty if single calls were not compared.
        seconds: of the whole sampling loop, over the number of images in its batch.
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


@dataclass(frozen=True)
class _Batch:
    latents: Tensor
    images: list[Any]
    seconds: float


def score(model: TinyModel, request: Request, methods: Sequence[str], probe: bool = True) -> list[Score]:
    """The score of each method for each image of the request. Dense images are always made, to compare with.

    Args:
        methods: names.
        probe: whether single calls are compared, too.
    """
    sampling = request.sampling
    calls: dict[int, Call] = {}

    def record(call: Call) -> None:
        calls.setdefault(sampling.step(call.number), call)

    sample(model, replace(request, sampling=Sampling(steps=1)))  # warms up
    dense = _make(model, request, METHODS[DENSE], record if probe else None)
    probed = [calls[int(progress * sampling.steps)] for progress in PROBED] if probe else []
    scores = []
    for name in methods:
        method = METHODS[name]
        batch = dense if name == DENSE else _make(model, request, method)
        errors = _errors(model, request, method, probed)
        scores += [_score(request, name, index, batch, dense, errors[index]) for index in range(len(request.seeds))]
    return scores


def _make(model: TinyModel, request: Request, method: Method, record: Callable[[Call], None] | None = None) -> _Batch:
    clock = now(model.device)
    torch.manual_seed(_MERGING_SEED)
    with method.apply(model.unet, latent_shape(request.size)[1:]) as patch:
        start = clock()
        latents = sample(model, request, patch, record)
        seconds = (clock() - start) / len(request.seeds)
    return _Batch(latents, decode(model, latents), seconds)


def _errors(model: TinyModel, request: Request, method: Method, probed: Sequence[Call]) -> list[tuple[float, ...]]:
    """The relative errors of the probed calls, by image."""
    torch.manual_seed(_MERGING_SEED)
    columns = []
    with method.apply(model.unet, latent_shape(request.size)[1:]) as patch:
        for call in probed:
            predicted = predict(model, request, call.number, call.latent, call.timestep, patch)
            difference, dense = (predicted - call.predicted).flatten(1), call.predicted.flatten(1)
            columns.append((difference.norm(dim=1) / dense.norm(dim=1)).tolist())
    return list(zip(*columns, strict=True)) or [()] * len(request.seeds)


def _score(request: Request, method: str, index: int, batch: _Batch, dense: _Batch, errors: tuple[float, ...]) -> Score:
    image, dense_image = batch.images[index], dense.images[index]
    return Score(
        method=method,
        prompt=request.prompt,
        seed=request.seeds[index],
        size=request.size,
        mse=float((batch.latents[index] - dense.latents[index]).square().mean()),
        psnr=similarity.psnr(image, dense_image),
        ssim=similarity.ssim(image, dense_image),
        detail=similarity.detail(image, dense_image),
        errors=errors,
        seconds=batch.seconds,
    )
