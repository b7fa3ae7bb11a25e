"""The comparison image: dense | ToDo | difference, with a row for each generated image. Independent of the host."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

Font = Callable[[int], Any]
"""Returns a font of a size in pixels."""

_PAPER, _INK = (255, 255, 255), (39, 49, 59)
_SMALLEST = 256
"""Pixels. Narrower images are enlarged, so that their captions fit."""
_LARGEST = 16000
"""Pixels. A longer sheet is scaled down, because image formats cannot hold it."""
_HEAT = ((0, 0, 0), (87, 15, 109), (187, 55, 84), (249, 142, 8), (252, 255, 164))
"""Colours from no difference to the largest. They also differ in brightness, for readers who cannot see the hues."""
NO_SCIKIT = "PSNR and SSIM need the package scikit-image, which this WebUI does not have"


@dataclass(frozen=True)
class Pair:
    """The same image, generated without and with ToDo."""

    dense: Image.Image
    todo: Image.Image


@dataclass(frozen=True)
class Fidelity:
    """How close the image with ToDo is to the dense one.

    Attributes:
        psnr: peak signal-to-noise ratio in dB; infinite for identical images.
        ssim: structural similarity; 1 for identical images.
    """

    psnr: float
    ssim: float

    def __str__(self) -> str:
        if math.isinf(self.psnr):
            return "identical"
        return f"PSNR {self.psnr:.2f} dB · SSIM {self.ssim:.3f}"


def fidelity(pair: Pair) -> Fidelity | None:
    """The fidelity of a pair; None if scikit-image is not installed."""
    try:
        from skimage.metrics import peak_signal_noise_ratio, structural_similarity
    except ImportError:
        return None
    dense, todo = np.asarray(pair.dense), np.asarray(pair.todo)
    if np.array_equal(dense, todo):
        return Fidelity(math.inf, 1.0)
    window = min(7, *(side - 1 + side % 2 for side in dense.shape[:2]))
    ssim = structural_similarity(dense, todo, channel_axis=2, data_range=255, win_size=window)
    return Fidelity(float(peak_signal_noise_ratio(dense, todo, data_range=255)), float(ssim))


def times(dense: float, todo: float) -> str:
    """The seconds of sampling of both runs, and the speed-up, as text."""
    return f"sampling: dense {dense:.2f} s · ToDo {todo:.2f} s · ×{dense / todo:.2f}"


def draw(pairs: Sequence[Pair], title: str, font: Font) -> Image.Image:
    """Draws the comparison image.

    Args:
        pairs: images of any size. Both images of a pair must have the same size.
        title: text at the top.
        font: returns the font for all texts.

    Raises:
        ValueError: the two images of a pair differ in size.
    """
    pairs = [Pair(pair.dense.convert("RGB"), pair.todo.convert("RGB")) for pair in pairs]
    for pair in pairs:
        if pair.dense.size != pair.todo.size:
            raise ValueError(f"the dense image has {_size(pair.dense)} pixels, the one with ToDo {_size(pair.todo)}")
    differences = [_difference(pair) for pair in pairs]
    top = max(1, math.ceil(max(float(np.percentile(each, 99.5)) for each in differences)))
    rows = [
        [_shown(pair.dense), _shown(pair.todo), _shown(_heat_map(difference, top))]
        for pair, difference in zip(pairs, differences, strict=True)
    ]
    captions = [_caption(pair) for pair in pairs]
    sheet = _laid_out(rows, captions, title, top, font)
    scale = _LARGEST / max(sheet.size)
    return sheet if scale >= 1 else sheet.resize((int(sheet.width * scale), int(sheet.height * scale)))


def _caption(pair: Pair) -> str:
    measured = fidelity(pair)
    return str(measured) if measured else NO_SCIKIT


def _size(image: Image.Image) -> str:
    return f"{image.width}×{image.height}"


def _difference(pair: Pair) -> np.ndarray[Any, Any]:
    """The largest difference among the channels for each pixel, 0 to 255."""
    difference = np.abs(np.asarray(pair.dense, dtype=np.int16) - np.asarray(pair.todo, dtype=np.int16))
    return difference.max(axis=2)


def _heat_map(difference: np.ndarray[Any, Any], top: float) -> Image.Image:
    """An image of the difference, with colours from 0 to `top`. Larger differences get the last colour."""
    stops = np.linspace(0, top, len(_HEAT))
    channels = [np.interp(difference, stops, [colour[index] for colour in _HEAT]) for index in range(3)]
    return Image.fromarray(np.stack(channels, axis=2).round().astype(np.uint8))


def _shown(image: Image.Image) -> Image.Image:
    """The image at its own size; a small one enlarged by a whole factor."""
    times = math.ceil(_SMALLEST / image.width)
    return image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)


def _laid_out(rows: list[list[Image.Image]], captions: list[str], title: str, top: int, font: Font) -> Image.Image:
    panel = max(image.width for row in rows for image in row)
    line = max(20, panel // 24)
    gap = line // 2
    width = 3 * panel + 4 * gap
    heights = [max(image.height for image in row) + 2 * line for row in rows]
    sheet = Image.new("RGB", (width, 4 * line + sum(heights)), _PAPER)
    pen = ImageDraw.Draw(sheet)
    lefts = [gap + column * (panel + gap) for column in range(3)]
    _write(pen, (gap, gap), title, width - 2 * gap, line, font)
    for left, head in zip(lefts, ("dense", "ToDo", "difference"), strict=True):
        _write(pen, (left, 2 * line + gap), head, panel, line, font)
    upper = 4 * line
    for row, caption, height in zip(rows, captions, heights, strict=True):
        for left, image in zip(lefts, row, strict=True):
            sheet.paste(image, (left, upper))
        lower = upper + height - 2 * line + line // 3
        _write(pen, (gap, lower), caption, 2 * panel, line, font)
        _draw_scale(sheet, (lefts[2], lower), panel, line, top, font)
        upper += height
    return sheet


def _draw_scale(sheet: Image.Image, at: tuple[int, int], width: int, line: int, top: int, font: Font) -> None:
    """The colour scale of the heat map, with its end points."""
    left, upper = at
    bar = width // 3
    ramp = _heat_map(np.tile(np.linspace(0, top, bar), (line, 1)), top)
    pen = ImageDraw.Draw(sheet)
    sheet.paste(ramp, (left + line, upper))
    _write(pen, (left, upper), "0", line, line, font)
    _write(pen, (left + line + bar + line // 3, upper), f"{top} or more of 255", width - bar - 2 * line, line, font)


def _write(pen: ImageDraw.ImageDraw, at: tuple[int, int], text: str, width: int, line: int, font: Font) -> None:
    """Draws one line of text. The font is reduced if the text would be wider than `width`."""
    size = round(line * 0.8)
    while size > 6 and pen.textlength(text, font(size)) > width:
        size -= 1
    pen.text(at, text, _INK, font(size))
