"""The sheet of *Compare with dense*: dense | ToDo | difference, with a row for each generated image. Independent of the
host."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from .fidelity import Fidelity, as_caption, difference
from .lettering import PAPER, SMALLEST, Font, enlarged, within_limits, write

_HEAT = ((0, 0, 0), (87, 15, 109), (187, 55, 84), (249, 142, 8), (252, 255, 164))
"""Colours from no difference to the largest. They also differ in brightness, for readers who cannot see the hues."""


@dataclass(frozen=True)
class Pair:
    """The same image, generated without and with ToDo, and how close they are; None without scikit-image."""

    dense: Image.Image
    todo: Image.Image
    close: Fidelity | None


def draw(pairs: Sequence[Pair], title: str, font: Font) -> Image.Image:
    """Draws the comparison image.

    Args:
        pairs: images of any size. Both images of a pair must have the same size.
        title: text at the top.
        font: returns the font for all texts.

    Raises:
        ValueError: the two images of a pair differ in size.
    """
    differences = [difference(pair.dense, pair.todo) for pair in pairs]
    top = max(1, math.ceil(max(float(np.percentile(each, 99.5)) for each in differences)))
    rows = [
        [_shown(pair.dense.convert("RGB")), _shown(pair.todo.convert("RGB")), _shown(_heat_map(each, top))]
        for pair, each in zip(pairs, differences, strict=True)
    ]
    captions = [as_caption(pair.close) for pair in pairs]
    return within_limits(_laid_out(rows, captions, title, top, font))


def _heat_map(values: np.ndarray[Any, Any], top: float) -> Image.Image:
    """An image of a difference, with colours from 0 to `top`. Larger differences get the last colour."""
    stops = np.linspace(0, top, len(_HEAT))
    channels = [np.interp(values, stops, [colour[index] for colour in _HEAT]) for index in range(3)]
    return Image.fromarray(np.stack(channels, axis=2).round().astype(np.uint8))


def _shown(image: Image.Image) -> Image.Image:
    """The image at its own size; a small one enlarged by a whole factor."""
    return enlarged(image, math.ceil(SMALLEST / image.width))


def _laid_out(rows: list[list[Image.Image]], captions: list[str], title: str, top: int, font: Font) -> Image.Image:
    panel = max(image.width for row in rows for image in row)
    line = max(20, panel // 24)
    gap = line // 2
    width = 3 * panel + 4 * gap
    heights = [max(image.height for image in row) + 2 * line for row in rows]
    sheet = Image.new("RGB", (width, 4 * line + sum(heights)), PAPER)
    lefts = [gap + column * (panel + gap) for column in range(3)]
    write(sheet, (gap, gap), title, width - 2 * gap, line, font)
    for left, head in zip(lefts, ("dense", "ToDo", "difference"), strict=True):
        write(sheet, (left, 2 * line + gap), head, panel, line, font)
    upper = 4 * line
    for row, caption, height in zip(rows, captions, heights, strict=True):
        for left, image in zip(lefts, row, strict=True):
            sheet.paste(image, (left, upper))
        lower = upper + height - 2 * line + line // 3
        write(sheet, (gap, lower), caption, 2 * panel, line, font)
        _draw_scale(sheet, (lefts[2], lower), panel, line, top, font)
        upper += height
    return sheet


def _draw_scale(sheet: Image.Image, at: tuple[int, int], width: int, line: int, top: int, font: Font) -> None:
    """The colour scale of the heat map, with its end points."""
    left, upper = at
    bar = width // 3
    ramp = _heat_map(np.tile(np.linspace(0, top, bar), (line, 1)), top)
    sheet.paste(ramp, (left + line, upper))
    write(sheet, (left, upper), "0", line, line, font)
    write(sheet, (left + line + bar + line // 3, upper), f"{top} or more of 255", width - bar - 2 * line, line, font)
