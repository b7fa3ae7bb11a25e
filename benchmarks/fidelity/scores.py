"""Makes images of one prompt with every method from the same noise, and scores them against the dense ones."""

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
"""Where along the dense trajectory single calls are compared, as shares of the sampling steps."""

_MERGING_SEED = 0
"""tomesd draws its random numbers from torch's own generator."""


@dataclass(frozen=True)
class Score:
    """One image by one method, against the dense one.

    Attributes:
        mse: of the final latent.
        psnr, ssim: of the image.
        detail: energy of fine detail relative to the dense image's.
        errors: of single calls along the dense trajectory, at `PROBED`: norm of the difference over the dense norm.
            Empty where single calls were not compared.
        seconds: of the whole sampling loop, for this image's share of its batch.
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
class _Made:
    latents: Tensor
    images: list[Any]
    seconds: float


def score(model: TinyModel, request: Request, methods: Sequence[str], probe: bool = True) -> list[Score]:
    """A score of each method for each image of the request. Dense images are made in any case.

    Args:
        probe: whether single calls are compared, too.
    """
    sampling = request.sampling
    calls: dict[int, Call] = {}

    def watch(call: Call) -> None:
        calls.setdefault(sampling.step(call.number), call)

    sample(model, replace(request, sampling=Sampling(steps=1)))  # warms up
    dense = _make(model, request, METHODS[DENSE], watch if probe else None)
    probed = [calls[int(share * sampling.steps)] for share in PROBED] if probe else []
    scores = []
    for name in methods:
        method = METHODS[name]
        made = dense if name == DENSE else _make(model, request, method)
        errors = _errors(model, request, method, probed)
        for index, seed in enumerate(request.seeds):
            scores.append(_score(request, name, seed, index, made, dense, errors[index]))
    return scores


def _make(model: TinyModel, request: Request, method: Method, watch: Callable[[Call], None] | None = None) -> _Made:
    clock = now(model.device)
    torch.manual_seed(_MERGING_SEED)
    with method.put_on(model.unet, latent_shape(request.size)[1:]) as patch:
        began = clock()
        latents = sample(model, request, patch, watch)
        seconds = (clock() - began) / len(request.seeds)
    return _Made(latents, decode(model, latents), seconds)


def _errors(model: TinyModel, request: Request, method: Method, probed: Sequence[Call]) -> list[tuple[float, ...]]:
    """By image, the relative error of each probed call."""
    torch.manual_seed(_MERGING_SEED)
    columns = []
    with method.put_on(model.unet, latent_shape(request.size)[1:]) as patch:
        for call in probed:
            predicted = predict(model, request, call.number, call.latent, call.timestep, patch)
            difference, dense = (predicted - call.predicted).flatten(1), call.predicted.flatten(1)
            columns.append((difference.norm(dim=1) / dense.norm(dim=1)).tolist())
    return list(zip(*columns, strict=True)) or [()] * len(request.seeds)


def _score(
    request: Request, method: str, seed: int, index: int, made: _Made, dense: _Made, errors: tuple[float, ...]
) -> Score:
    image, other = made.images[index], dense.images[index]
    return Score(
        method=method,
        prompt=request.prompt,
        seed=seed,
        size=request.size,
        mse=float((made.latents[index] - dense.latents[index]).square().mean()),
        psnr=similarity.psnr(image, other),
        ssim=similarity.ssim(image, other),
        detail=similarity.detail(image, other),
        errors=errors,
        seconds=made.seconds,
    )
