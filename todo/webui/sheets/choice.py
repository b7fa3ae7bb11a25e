"""The sheet of *Compare with dense and neighbouring settings*: a column for dense and for each of the settings, and a
row for each generated image, with the place where they differ most beneath it. Independent of the host."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from .column import Column
from .fidelity import Fidelity, as_caption, difference
from .lettering import ACCENT, INK, PAPER, SMALLEST, Font, enlarged, within_limits, write

TITLE = "PSNR and SSIM: how close an image is to the dense one. Seconds: sampling of all images."
_WIDEST = 512
"""Pixels. Wider images are scaled down; what they lose shows in the part beneath them."""
_LINES_PER_WIDTH = 80
"""The height of a line of text is at least this part of the sheet's width, so that it can be read in a browser."""


@dataclass(frozen=True)
class _Row:
    """The same image with all settings; None where a run did not make it.

    Attributes:
        details: the part of each image where they differ most.
        where: what the part is, as text.
    """

    seed: int
    images: list[Image.Image | None]
    captions: list[str]
    details: list[Image.Image | None]
    where: str


def draw(columns: Sequence[Column], close: Sequence[Sequence[Fidelity | None]], font: Font) -> Image.Image:
    """Draws the sheet.

    Args:
        columns: dense first.
        close: the fidelity of their images, as `column.closeness` gives it.
        font: returns the font for all texts.

    Raises:
        ValueError: images of a row differ in size.
    """
    dense = columns[0]
    panel = max(SMALLEST, min(_WIDEST, max(image.width for image in dense.images)))
    rows = [_row(columns, close, number, panel) for number in range(len(dense.images))]
    return within_limits(_laid_out([_heading(column, dense) for column in columns], rows, panel, font))


def _heading(column: Column, dense: Column) -> tuple[str, str, Any]:
    """Two lines and their colour."""
    seconds = f"{column.seconds:.2f} s" if column.seconds else ""
    speed_up = column.speed_up(dense) if column is not dense else None
    chosen = " (chosen)" if column.chosen else ""
    times = f"{seconds} · ×{speed_up:.2f}" if speed_up else seconds
    return f"{column.label}{chosen}", times, ACCENT if column.chosen else INK


def _row(columns: Sequence[Column], close: Sequence[Sequence[Fidelity | None]], number: int, panel: int) -> _Row:
    images = [column.images[number].convert("RGB") if number < len(column.images) else None for column in columns]
    captions = [as_caption(each[number]) if number < len(each) else "" for each in close]
    made = [image for image in images if image is not None]
    box, times = _most_different(made, panel)
    size = "full resolution" if times == 1 else f"enlarged {times} times"
    where = f"where they differ most, {size}, {box[0]} from the left and {box[1]} from the top"
    details = [image and enlarged(image.crop(box), times) for image in images]
    shown = [image and _fitted(image, panel) for image in images]
    return _Row(columns[0].seeds[number], shown, ["", *captions[1:]], details, where)


def _most_different(images: Sequence[Image.Image], panel: int) -> tuple[tuple[int, int, int, int], int]:
    """The square in which images differ most from the first: (left, upper, right, lower), and how to enlarge it.

    At full resolution it is as wide as a panel. Where that would be the whole image, it is enlarged two times.
    """
    first = images[0]
    times = 1 if first.width > panel else 2 * max(1, math.ceil(panel / first.width))
    side = min(panel // times, first.width, first.height)
    total = sum((difference(first, image).astype(np.int64) for image in images[1:]), np.zeros((1, 1), np.int64))
    total = np.broadcast_to(total, (first.height, first.width))
    sums = np.pad(total.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    squares = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    upper, left = np.unravel_index(int(squares.argmax()), squares.shape)
    return (int(left), int(upper), int(left) + side, int(upper) + side), times


def _fitted(image: Image.Image, panel: int) -> Image.Image:
    """The image as wide as a panel, or as near as a whole factor comes for a smaller one."""
    if image.width > panel:
        return image.resize((panel, round(image.height * panel / image.width)), Image.Resampling.LANCZOS)
    return enlarged(image, panel // image.width)


def _laid_out(headings: list[tuple[str, str, Any]], rows: list[_Row], panel: int, font: Font) -> Image.Image:
    line = max(20, len(headings) * panel // _LINES_PER_WIDTH)
    gap = line // 2
    width = len(headings) * (panel + gap) + gap
    lefts = range(gap, width, panel + gap)
    heights = [(_height(row.images), _height(row.details)) for row in rows]
    sheet = Image.new("RGB", (width, 4 * line + sum(sum(each) + 5 * line for each in heights)), PAPER)

    def put(at: tuple[int, int], text: str, wide: int, colour: Any = INK) -> None:
        write(sheet, at, text, wide, line, font, colour)

    put((gap, gap), TITLE, width - 2 * gap)
    for left, (name, times, colour) in zip(lefts, headings, strict=True):
        put((left, 2 * line), name, panel, colour)
        put((left, 3 * line), times, panel, colour)
    upper = 4 * line
    for row, (image_height, detail_height) in zip(rows, heights, strict=True):
        middle = upper + line + gap + image_height
        lower = middle + 2 * line + gap
        put((gap, upper + gap), f"seed {row.seed}", width - 2 * gap)
        put((gap, middle + line + gap), row.where, width - 2 * gap)
        for left, image, caption, detail in zip(lefts, row.images, row.captions, row.details, strict=True):
            if image is not None and detail is not None:
                sheet.paste(image, (left, upper + line + gap))
                sheet.paste(detail, (left, lower))
                put((left, middle + gap // 4), caption, panel)
        upper = lower + detail_height + line
    return sheet


def _height(images: Sequence[Image.Image | None]) -> int:
    return max(image.height for image in images if image is not None)
