"""How both sheets are laid out: columns under headings, in strips of images with captions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw

from .column import Column, dense_of, times

Font = Callable[[int], Any]
"""Returns a font of a size in pixels."""

SMALLEST = 256
"""Pixels. Narrower images are enlarged, so that their captions fit."""
_PAPER, _INK, _ACCENT = (255, 255, 255), (39, 49, 59), (217, 108, 6)
_TITLE = "PSNR and SSIM: how close an image is to the dense one. Seconds: sampling of all images."
_LARGEST = 16000
"""Pixels. A longer sheet is scaled down, because image formats cannot hold it."""
_LINES_PER_WIDTH = 80
"""The height of a line of text is at least this part of the sheet's width, so that it can be read in a browser."""
_FINER = 4
"""Text is drawn this many times larger and scaled down. Pillow places letters at whole pixels, which at the size of a
caption leaves uneven gaps between them."""


@dataclass(frozen=True)
class Strip:
    """Images side by side, one for each column; None where there is none.

    Attributes:
        above: a line about all of them.
        captions: a line beneath each.
    """

    above: str
    images: Sequence[Image.Image | None]
    captions: Sequence[str]


def heading(column: Column, columns: Sequence[Column]) -> tuple[str, str, Any]:
    """Two lines about a column, and their colour."""
    chosen = " (chosen)" if column.chosen and len(columns) > 2 else ""
    figures = " · ".join(filter(None, times(column, dense_of(columns))))
    return f"{column.label}{chosen}", figures, _ACCENT if column.chosen else _INK


def sheet(headings: Sequence[tuple[str, str, Any]], strips: Sequence[Strip], font: Font) -> Image.Image:
    """The sheet with a column for each heading."""
    panel = max(image.width for strip in strips for image in strip.images if image is not None)
    line = max(20, len(headings) * panel // _LINES_PER_WIDTH)
    gap = line // 2
    width = len(headings) * (panel + gap) + gap
    lefts = range(gap, width, panel + gap)
    heights = [max(image.height for image in strip.images if image is not None) for strip in strips]
    drawn = Image.new("RGB", (width, 4 * line + sum(heights) + 3 * line * len(strips)), _PAPER)

    def put(at: tuple[int, int], text: str, wide: int, colour: Any = _INK) -> None:
        _write(drawn, at, text, wide, line, font, colour)

    put((gap, gap), _TITLE, width - 2 * gap)
    for left, (name, figures, colour) in zip(lefts, headings, strict=True):
        put((left, 2 * line), name, panel, colour)
        put((left, 3 * line), figures, panel, colour)
    upper = 4 * line
    for strip, height in zip(strips, heights, strict=True):
        put((gap, upper + gap // 2), strip.above, width - 2 * gap)
        top = upper + line + gap
        for left, image, caption in zip(lefts, strip.images, strip.captions, strict=True):
            if image is not None:
                drawn.paste(image, (left, top))
                put((left, top + height + gap // 4), caption, panel)
        upper = top + height + line + gap
    scale = _LARGEST / max(drawn.size)
    return drawn if scale >= 1 else drawn.resize((int(drawn.width * scale), int(drawn.height * scale)))


def enlarged(image: Image.Image, times: int) -> Image.Image:
    """The image with each pixel as a square of `times` pixels per side."""
    return image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)


def _write(on: Image.Image, at: tuple[int, int], text: str, width: int, line: int, font: Font, colour: Any) -> None:
    """Draws one line of text. It is reduced if it would be wider than `width`.

    Args:
        line: height of the line in pixels.
    """
    size = round(line * 0.8)
    while size > 6 and font(size * _FINER).getlength(text) > width * _FINER:
        size -= 1
    left, _, right, bottom = font(size * _FINER).getbbox(text)
    if right <= left:
        return
    letters = Image.new("L", (math.ceil(right / _FINER) * _FINER, math.ceil(bottom / _FINER) * _FINER))
    ImageDraw.Draw(letters).text((0, 0), text, 255, font(size * _FINER))
    mask = letters.resize((letters.width // _FINER, letters.height // _FINER), Image.Resampling.BOX)
    on.paste(colour, (*at, at[0] + mask.width, at[1] + mask.height), mask)
