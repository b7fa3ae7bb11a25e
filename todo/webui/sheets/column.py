"""The results of a comparison: a column for dense and for each of the settings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from ...settings import Settings
from .fidelity import Fidelity, fidelity


@dataclass(frozen=True)
class Column:
    """What one run made.

    Attributes:
        label: of the settings.
        settings: None is dense.
        chosen: whether these are the settings on the page.
        images: those that are complete, at most as many as were asked for.
        infotexts, seeds, subseeds: of each image.
        seconds: time that sampling took; None if the run did not make all images.
        shown: the position of the first image in the gallery; None if the images are not there.
    """

    label: str
    settings: Settings | None
    chosen: bool
    images: Sequence[Image.Image]
    infotexts: Sequence[str]
    seeds: Sequence[int]
    subseeds: Sequence[int]
    seconds: float | None
    shown: int | None = None

    def speed_up(self, dense: Column) -> float | None:
        """How many times faster than dense; None if either run did not make all images."""
        return dense.seconds / self.seconds if dense.seconds and self.seconds else None


def closeness(columns: Sequence[Column]) -> list[list[Fidelity | None]]:
    """By column, dense first: the fidelity of each image that was made dense, too; None without scikit-image."""
    dense = columns[0].images
    return [[fidelity(*pair) for pair in zip(dense, column.images, strict=False)] for column in columns]


def line(columns: Sequence[Column]) -> str:
    """The seconds and the speed-up of each column, dense first, as text."""
    dense = columns[0]
    return f"sampling: {' · '.join(_text(column, dense) for column in columns)}"


def _text(column: Column, dense: Column) -> str:
    seconds = f" {column.seconds:.2f} s" if column.seconds else ""
    speed_up = column.speed_up(dense) if column is not dense else None
    return f"{column.label}{seconds}" + (f" (×{speed_up:.2f})" if speed_up else "")


def data(columns: Sequence[Column], close: Sequence[Sequence[Fidelity | None]]) -> list[dict[str, Any]]:
    """The figures as JSON, dense first. The fidelity of identical images has no PSNR.

    Args:
        close: of the columns, as `closeness` gives it.
    """
    return [_data(column, columns[0], of_images) for column, of_images in zip(columns, close, strict=True)]


def _data(column: Column, dense: Column, close: Sequence[Fidelity | None]) -> dict[str, Any]:
    speed_up = column.speed_up(dense)
    return {
        "settings": column.settings and column.settings.to_dict(),
        "seconds": column.seconds and round(column.seconds, 3),
        "speed_up": speed_up and round(speed_up, 3),
        "images": [
            {
                "index": None if column.shown is None else column.shown + number,
                "seed": column.seeds[number],
                "psnr": round(each.psnr, 3) if each and math.isfinite(each.psnr) else None,
                "ssim": round(each.ssim, 5) if each else None,
            }
            for number, each in enumerate(close)
        ],
    }
