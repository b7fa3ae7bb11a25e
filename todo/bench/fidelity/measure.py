"""Draws one prompt by every method from the same noise, and compares with the dense pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from todo.bench import similarity
from todo.bench.environment import now
from todo.bench.fidelity.methods import DENSE, METHODS, Method
from todo.bench.painter.painter import Painter, latent_shape
from todo.bench.painter.sampler import Call, Order, Sampling, draw, pictures, predict

PROBED = (0.1, 0.4, 0.8)
"""Where along the dense trajectory single calls are compared, as shares of the steps."""

_MERGING_SEED = 0
"""tomesd draws lots from torch's own generator."""


@dataclass(frozen=True)
class Sample:
    """One picture by one method.

    Attributes:
        mse: of the final latent, against the dense one's.
        psnr, ssim: of the picture, against the dense one.
        detail: energy of fine detail relative to the dense picture's.
        errors: of single calls along the dense trajectory, at `PROBED` or at none: norm of the difference over the
            dense norm.
        seconds: of the whole loop, for this picture's share of its batch.
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
class _Drawn:
    latents: Tensor
    pictures: list[Any]
    seconds: float


def measure(painter: Painter, order: Order, methods: Sequence[str], probe: bool = True) -> list[Sample]:
    """A sample of each method for each of the order's pictures; dense is drawn in any case.

    Args:
        probe: whether single calls are compared, too.
    """
    sampling = order.sampling
    calls: dict[int, Call] = {}

    def watch(call: Call) -> None:
        calls.setdefault(sampling.step(call.number), call)

    draw(painter, replace(order, sampling=Sampling(steps=1)))  # warms up
    dense = _draw(painter, order, METHODS[DENSE], watch if probe else None)
    probed = [calls[int(share * sampling.steps)] for share in PROBED] if probe else []
    samples = []
    for name in methods:
        method = METHODS[name]
        drawn = dense if name == DENSE else _draw(painter, order, method)
        errors = _errors(painter, order, method, probed)
        for index, seed in enumerate(order.seeds):
            samples.append(_sample(order, name, seed, index, drawn, dense, errors[index]))
    return samples


def _draw(painter: Painter, order: Order, method: Method, watch: Callable[[Call], None] | None = None) -> _Drawn:
    clock = now(painter.device)
    torch.manual_seed(_MERGING_SEED)
    with method.on(painter.unet, latent_shape(order.size)[1:]) as patch:
        began = clock()
        latents = draw(painter, order, patch, watch)
        seconds = (clock() - began) / len(order.seeds)
    return _Drawn(latents, pictures(painter, latents), seconds)


def _errors(painter: Painter, order: Order, method: Method, probed: Sequence[Call]) -> list[tuple[float, ...]]:
    """By picture, the relative error of each probed call."""
    torch.manual_seed(_MERGING_SEED)
    columns = []
    with method.on(painter.unet, latent_shape(order.size)[1:]) as patch:
        for call in probed:
            found = predict(painter, order, call.number, call.latent, call.timestep, patch)
            difference, dense = (found - call.predicted).flatten(1), call.predicted.flatten(1)
            columns.append((difference.norm(dim=1) / dense.norm(dim=1)).tolist())
    return list(zip(*columns, strict=True)) or [()] * len(order.seeds)


def _sample(
    order: Order, method: str, seed: int, index: int, drawn: _Drawn, dense: _Drawn, errors: tuple[float, ...]
) -> Sample:
    picture, other = drawn.pictures[index], dense.pictures[index]
    return Sample(
        method=method,
        prompt=order.prompt,
        seed=seed,
        size=order.size,
        mse=float((drawn.latents[index] - dense.latents[index]).square().mean()),
        psnr=similarity.psnr(picture, other),
        ssim=similarity.ssim(picture, other),
        detail=similarity.detail(picture, other),
        errors=errors,
        seconds=drawn.seconds,
    )
