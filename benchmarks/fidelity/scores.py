"""Makes an image with every method from the same noise, and scores it against the dense one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from math import nan
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import similarity
from benchmarks.environment import if_it_fits, now
from benchmarks.fidelity.attention import effective_share
from benchmarks.fidelity.methods import Layout, picks
from benchmarks.hooks import attached
from benchmarks.method import DENSE, Method, dense_attention
from benchmarks.sampling import ImageModel, Request
from todo.timing import wait
from todo.unet import find_self_attention

_MERGING_SEED = 0
"""Token merging draws from torch's default generator, so a seed makes it repeatable."""

_ATTENTION_STEPS = 5
"""So many steps are enough to measure how many keys count, which hardly depends on the number of steps."""

_DENSE = Method(DENSE, dense_attention)


@dataclass(frozen=True)
class Score:
    """One image made with a method, compared with the dense one. What is not known is NaN: the comparison where the
    dense image or the method's did not fit in memory, the seconds where the method's did not.

    Attributes:
        size: (height, width) in pixels.
        kept: how many keys a query sees at each level, finest first; () if the image did not fit in memory.
        picks: which tokens are kept, as `methods.picks` defines it.
        mse: mean squared error of the final latent.
        psnr: of the image, in dB.
        ssim: of the image.
        seconds: of the whole sampling loop.
        high_pass: of the image itself, as `similarity.high_pass` defines it.
        lpips: of the image.
        effective_keys: of a dense image with the first seed, as `attention.effective_share` defines it.
    """

    method: str
    prompt: str
    seed: int
    size: tuple[int, int]
    kept: tuple[int, ...] = ()
    picks: str = ""
    mse: float = nan
    psnr: float = nan
    ssim: float = nan
    seconds: float = nan
    high_pass: float = nan
    lpips: float = nan
    effective_keys: float = nan

    @property
    def image_mse(self) -> float:
        """Mean squared error of the image, whose values are in [0, 1]."""
        return 10.0 ** (-self.psnr / 10)


@dataclass(frozen=True)
class _Image:
    latent: Tensor
    pixels: Any
    seconds: float
    kept: tuple[int, ...]


def score(
    image_model: ImageModel, request: Request, methods: Iterable[Method], perceptual: bool = True
) -> Iterator[tuple[Score, Any]]:
    """Scores each method for the image of a request, which has one seed. The dense image is always made, to compare
    with.

    Args:
        perceptual: whether LPIPS is measured, which takes longer than the others.

    Yields:
        Each method's score and image, in the methods' order. The image is None if it did not fit in memory.
    """

    def make_dense() -> _Image:
        image_model.sample(replace(request, sampling=replace(request.sampling, steps=1)))  # warms up
        return _make(image_model, request, _DENSE)

    (seed,) = request.seeds
    dense = if_it_fits(make_dense)
    for method in methods:
        image = dense if method.name == DENSE else if_it_fits(partial(_make, image_model, request, method))
        found = Score(
            method.name, request.prompt, seed, request.size,
            picks=picks(method, layout(image_model, request.size), request.sampling.steps),
        )  # fmt: skip
        if image:
            high_pass = similarity.high_pass(image.pixels)
            found = replace(found, kept=image.kept, seconds=image.seconds, high_pass=high_pass)
        if image and dense:
            found = _compared(found, image, dense, perceptual)
        if method.name == DENSE and seed == 0:
            found = replace(found, effective_keys=_share(image_model, request))
        yield found, image.pixels if image else None


def layout(image_model: ImageModel, size: tuple[int, int]) -> Layout:
    """Where the model's UNet has self-attention for images of `size` = (height, width) in pixels."""
    depths = {block.depth for block in find_self_attention(image_model.unet)}
    return Layout(image_model.latent_size(size), tuple(sorted(depths)))


def _make(image_model: ImageModel, request: Request, method: Method) -> _Image:
    clock = now(image_model.device)
    torch.manual_seed(_MERGING_SEED)
    kept: dict[int, int] = {}
    with method.apply(image_model.unet, image_model.latent_size(request.size)) as patch, _counted(image_model, kept):
        wait(image_model.device)
        start = clock()
        latents = image_model.sample(request, patch)
        wait(image_model.device)
        seconds = clock() - start
    (pixels,) = image_model.decode(latents)
    return _Image(latents[0].float(), pixels, seconds, tuple(kept[depth] for depth in sorted(kept)))


@contextmanager
def _counted(image_model: ImageModel, kept: dict[int, int]) -> Iterator[None]:
    """Stores how many keys a query sees, by level: the least of all calls within a `with` block."""

    def count(depth: int) -> Callable[..., None]:
        def store(module: nn.Module, args: tuple[Any, ...], keys: Tensor) -> None:
            kept[depth] = min(keys.shape[1], kept.get(depth, keys.shape[1]))

        return store

    blocks: Any = find_self_attention(image_model.unet)
    with attached(block.attention.to_k.register_forward_hook(count(block.depth)) for block in blocks):
        yield


def _compared(found: Score, image: _Image, dense: _Image, perceptual: bool) -> Score:
    pair = image.pixels, dense.pixels
    return replace(
        found,
        mse=float((image.latent - dense.latent).square().mean()),
        psnr=similarity.psnr(*pair),
        ssim=similarity.ssim(*pair),
        lpips=similarity.lpips(*pair) if perceptual else nan,
    )


def _share(image_model: ImageModel, request: Request) -> float:
    sampling = replace(request.sampling, steps=min(request.sampling.steps, _ATTENTION_STEPS))
    share = if_it_fits(lambda: effective_share(image_model, replace(request, sampling=sampling)))
    return nan if share is None else share
