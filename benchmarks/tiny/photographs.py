"""What the tiny model learns to make: freely licensed photographs that ship inside scikit-image's wheel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

_ZOOM = 1.12
"""The closest view of a photograph, as a ratio to its largest square."""

_JITTER = 0.04
"""How far a view's centre strays from the photograph's own, as a share of the view's side."""

_STORED_SIDE = 512
"""Pixels of the shorter side at most; what is larger is scaled down once."""


@dataclass(frozen=True)
class Photograph:
    """`name` is scikit-image's; `prompt` asks for it. `middle` is where its subject is, (x, y) as shares of
    the width and height."""

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
    """Its pixels in [−1, 1]: (3, height, width)."""
    from skimage import color, data, util

    pixels = util.img_as_float32(getattr(data, photograph.name)())
    image = torch.from_numpy(pixels if pixels.ndim == 3 else color.gray2rgb(pixels)).permute(2, 0, 1) * 2 - 1
    scale = min(1.0, _STORED_SIDE / min(image.shape[1:]))
    return resized(image, tuple(round(side * scale) for side in image.shape[1:]))


def resized(image: Tensor, size: tuple[int, ...]) -> Tensor:
    """An image (3, h, w) at `size` = (height, width)."""
    return functional.interpolate(image[None], size=size, mode="bicubic", antialias=True)[0].clamp(-1, 1)


def view(image: Tensor, middle: tuple[float, float], side: int, generator: torch.Generator) -> tuple[Tensor, bool]:
    """The photograph as if it were taken again: nearly all of it, slightly shifted, closer by up to an eighth, and
    mirrored half of the time.

    Args:
        image: (3, h, w).
        side: pixels per side of what is returned.

    Returns:
        (3, side, side), and whether it is mirrored.
    """
    zoom, *shift, mirror = torch.rand(4, generator=generator).tolist()
    height, width = image.shape[1:]
    window = round(min(height, width) / (1 + zoom * (_ZOOM - 1)))
    left, top = (
        round(min(max(share * length + (random * 2 - 1) * _JITTER * window - window / 2, 0), length - window))
        for share, length, random in zip(middle, (width, height), shift, strict=True)
    )
    seen = resized(image[:, top : top + window, left : left + window], (side, side))
    return (seen.flip(2), True) if mirror < 0.5 else (seen, False)
