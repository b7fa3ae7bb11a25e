"""The sheet of *Compare with dense*: ToDo, dense and their difference, with a strip for each generated image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from .column import Column
from .drawing import SMALLEST, Font, Strip, enlarged, heading, sheet
from .fidelity import as_caption, difference

_HEAT = ((0, 0, 0), (87, 15, 109), (187, 55, 84), (249, 142, 8), (252, 255, 164))
"""Colours from no difference to the largest. They also differ in brightness, for readers who cannot see the hues."""


def draw(columns: Sequence[Column], font: Font) -> Image.Image:
    """Draws the sheet.

    Args:
        columns: ToDo and dense, with images of any size. What one of them lacks is left out.
        font: returns the font for all texts.

    Raises:
        ValueError: the two images of a pair differ in size.
    """
    todo, dense = columns
    differences = [difference(*pair) for pair in zip(dense.images, todo.images, strict=False)]
    top = max(1, math.ceil(max(float(np.percentile(each, 99.5)) for each in differences)))
    scale = f"black: equal · yellow: ≥ {top} of 255"
    strips = [
        Strip(
            f"seed {seed}",
            [_shown(image) for image in (made, expected, _heat_map(each, top))],
            [as_caption(fidelity), "", scale],
        )
        for seed, made, expected, fidelity, each in zip(
            todo.seeds, todo.images, dense.images, todo.fidelity, differences, strict=False
        )
    ]
    heads = [heading(column, columns) for column in columns]
    return sheet([*heads, ("difference", "", heads[1][2])], strips, font)


def _heat_map(values: np.ndarray[Any, Any], top: float) -> Image.Image:
    """An image of a difference, with colours from 0 to `top`. Larger differences get the last colour."""
    stops = np.linspace(0, top, len(_HEAT))
    channels = [np.interp(values, stops, [colour[index] for colour in _HEAT]) for index in range(3)]
    return Image.fromarray(np.stack(channels, axis=2).round().astype(np.uint8))


def _shown(image: Image.Image) -> Image.Image:
    """The image at its own size; a small one enlarged by a whole factor."""
    return enlarged(image.convert("RGB"), math.ceil(SMALLEST / image.width))
