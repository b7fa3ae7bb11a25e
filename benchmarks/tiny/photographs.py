"""The tiny model's training images: freely licensed photographs that ship with scikit-image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

_ZOOM = 1.12
"""How much closer than the photograph's largest square a view is at most."""

_JITTER = 0.04
"""How far a view's centre is shifted at most, as a share of the view's side."""

_STORED_SIDE = 512
"""Largest shorter side in pixels. Larger photographs are scaled down when they are loaded."""


@dataclass(frozen=True)
class Photograph:
    """A training image.

    Attributes:
        name: of the function in `skimage.data`.
        prompt: describes the image.
        middle: of the subject, (x, y) as shares of width and height.
    """

    name: str
    prompt: str
    middle: tuple[float, float]
    licence: str


PHOTOGRAPHS = (
    Photograph("astronaut", "an astronaut", (0.5, 0.5), "public domain (NASA)"),
    Photograph("camera", "a photographer", (0.5, 0.5), "CC0 (Lav Varshney)"),
    Photograph("chelsea", "a cat", (0.52, 0.5), "CC0 (Stefan van der Walt)"),
    Photograph("coffee", "a cup of coffee", (0.47, 0.5), "CC0 (Rachel Michetti)"),
    Photograph("coins", "ancient coins", (0.55, 0.5), "no known copyright restrictions (Brooklyn Museum)"),
    Photograph("rocket", "a rocket", (0.5, 0.5), "public domain (SpaceX)"),
    Photograph("brick", "a brick wall", (0.5, 0.5), "CC0 (CC0Textures)"),
    Photograph("hubble_deep_field", "distant galaxies", (0.5, 0.5), "public domain (NASA)"),
)

PROMPTS = tuple(photograph.prompt for photograph in PHOTOGRAPHS)


def load(photograph: Photograph) -> Tensor:
    """The pixels in [−1, 1], (3, height, width)."""
    from skimage import color, data, util

    pixels = util.img_as_float32(getattr(data, photograph.name)())
    image = torch.from_numpy(pixels if pixels.ndim == 3 else color.gray2rgb(pixels)).permute(2, 0, 1) * 2 - 1
    scale = min(1.0, _STORED_SIDE / min(image.shape[1:]))
    return resized(image, tuple(round(side * scale) for side in image.shape[1:]))


def resized(image: Tensor, size: tuple[int, ...]) -> Tensor:
    """Scales an image (3, h, w) to `size` = (height, width) in pixels."""
    return functional.interpolate(image[None], size=size, mode="bicubic", antialias=True)[0].clamp(-1, 1)


def view(image: Tensor, middle: tuple[float, float], side: int, generator: torch.Generator) -> tuple[Tensor, bool]:
    """A random square view of a photograph, as if it were taken again: slightly shifted, closer by up to an eighth, and
    mirrored half of the time.

    Args:
        image: (3, h, w).
        middle: of the subject, (x, y) as shares of width and height.
        side: pixels per side of the view.

    Returns:
        The view, (3, side, side), and whether it is mirrored.
    """
    zoom, *shift, mirror = torch.rand(4, generator=generator).tolist()
    height, width = image.shape[1:]
    window = round(min(height, width) / (1 + zoom * (_ZOOM - 1)))
    left, top = (
        round(min(max(share * length + (random * 2 - 1) * _JITTER * window - window / 2, 0), length - window))
        for share, length, random in zip(middle, (width, height), shift, strict=True)
    )
    square = resized(image[:, top : top + window, left : left + window], (side, side))
    return (square.flip(2), True) if mirror < 0.5 else (square, False)
