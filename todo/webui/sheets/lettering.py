"""What the sheets are drawn with: colours, text, enlarged images, limits. Independent of the host."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from PIL import Image, ImageDraw

Font = Callable[[int], Any]
"""Returns a font of a size in pixels."""

PAPER, INK, ACCENT = (255, 255, 255), (39, 49, 59), (217, 108, 6)
SMALLEST = 256
"""Pixels. Narrower images are enlarged, so that their captions fit."""
LARGEST = 16000
"""Pixels. A longer sheet is scaled down, because image formats cannot hold it."""
_FINER = 4
"""Text is drawn this many times larger and scaled down. Pillow places letters at whole pixels, which at the size of a
caption leaves uneven gaps between them."""


def write(
    sheet: Image.Image, at: tuple[int, int], text: str, width: int, line: int, font: Font, colour: Any = INK
) -> None:
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
    sheet.paste(colour, (*at, at[0] + mask.width, at[1] + mask.height), mask)


def enlarged(image: Image.Image, times: int) -> Image.Image:
    """The image with each pixel as a square of `times` pixels per side."""
    return image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)


def within_limits(sheet: Image.Image) -> Image.Image:
    """The sheet, scaled down if it is too large."""
    scale = LARGEST / max(sheet.size)
    return sheet if scale >= 1 else sheet.resize((int(sheet.width * scale), int(sheet.height * scale)))
