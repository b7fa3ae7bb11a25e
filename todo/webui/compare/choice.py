"""The sheet of *Compare with neighbouring settings*: columns for the settings and dense, and two strips for
each generated image: the image, and the place where they differ most."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from .column import Column, dense_of
from .drawing import SMALLEST, Font, Strip, enlarged, heading, sheet
from .fidelity import as_caption, difference

_WIDEST = 512
"""Pixels. Wider images are scaled down; what they lose shows in the part beneath them."""


def draw(columns: Sequence[Column], font: Font) -> Image.Image:
    """Draws the sheet.

    Args:
        columns: in the order of the sheet. Images that dense lacks are left out.
        font: returns the font for all texts.

    Raises:
        ValueError: images of a strip differ in size.
    """
    dense = dense_of(columns)
    panel = max(SMALLEST, min(_WIDEST, max(image.width for image in dense.images)))
    strips = [strip for number in range(len(dense.images)) for strip in _strips(columns, dense, number, panel)]
    return sheet([heading(column, columns) for column in columns], strips, font)


def _strips(columns: Sequence[Column], dense: Column, number: int, panel: int) -> tuple[Strip, Strip]:
    images = [column.images[number].convert("RGB") if number < len(column.images) else None for column in columns]
    captions = [
        as_caption(column.fidelity[number]) if column is not dense and number < len(column.fidelity) else ""
        for column in columns
    ]
    box, times = _most_different(dense.images[number], [image for image in images if image is not None], panel)
    size = "at full resolution" if times == 1 else f"enlarged {times} times"
    where = f"where they differ most, {box[0]} px from the left and {box[1]} px from the top, {size}"
    details = [image and enlarged(image.crop(box), times) for image in images]
    shown = [image and _fitted(image, panel) for image in images]
    return Strip(f"seed {dense.seeds[number]}", shown, captions), Strip(where, details, [""] * len(columns))


def _most_different(
    dense: Image.Image, images: Sequence[Image.Image], panel: int
) -> tuple[tuple[int, int, int, int], int]:
    """The square in which images differ most from the dense one: (left, upper, right, lower), and how to enlarge it.

    At full resolution it is as wide as a panel. Where that would be the whole image, it is enlarged two times.
    """
    times = 1 if dense.width > panel else 2 * max(1, math.ceil(panel / dense.width))
    side = min(panel // times, dense.width, dense.height)
    total = sum((difference(dense, image).astype(np.int64) for image in images), np.zeros((1, 1), np.int64))
    sums = np.pad(total.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    squares = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    upper, left = np.unravel_index(int(squares.argmax()), squares.shape)
    return (int(left), int(upper), int(left) + side, int(upper) + side), times


def _fitted(image: Image.Image, panel: int) -> Image.Image:
    """The image as wide as a panel, or as near as a whole factor comes for a smaller one."""
    if image.width > panel:
        return image.resize((panel, round(image.height * panel / image.width)), Image.Resampling.LANCZOS)
    return enlarged(image, panel // image.width)
