"""The results of a comparison: a column for dense and for each of the settings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from ...settings import Settings
from .fidelity import Fidelity, measured


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
        positions: of each image in the gallery; None if they are not there.
        fidelity: of each image that was made dense, too; None without scikit-image.
    """

    label: str
    settings: Settings | None
    chosen: bool
    images: Sequence[Image.Image]
    infotexts: Sequence[str]
    seeds: Sequence[int]
    subseeds: Sequence[int]
    seconds: float | None
    positions: Sequence[int] | None = None
    fidelity: Sequence[Fidelity | None] = ()

    def speed_up(self, dense: Column) -> float | None:
        """How many times faster than dense; None if either run did not make all images."""
        return dense.seconds / self.seconds if dense.seconds and self.seconds else None


def dense_of(columns: Sequence[Column]) -> Column:
    """The one without ToDo."""
    return next(column for column in columns if column.settings is None)


def with_fidelity(columns: Sequence[Column]) -> list[Column]:
    """The columns with the fidelity of their images to those of the dense one."""
    dense = dense_of(columns).images
    return [
        replace(column, fidelity=[measured(*pair) for pair in zip(dense, column.images, strict=False)])
        for column in columns
    ]


def line(columns: Sequence[Column]) -> str:
    """The seconds and the speed-up of each column as text."""
    dense = dense_of(columns)
    return f"sampling: {' · '.join(_text(column, dense) for column in columns)}"


def times(column: Column, dense: Column) -> tuple[str, str]:
    """The seconds of a column and its speed-up as text; '' for what is not known."""
    speed_up = column.speed_up(dense) if column is not dense else None
    return f"{column.seconds:.2f} s" if column.seconds else "", f"×{speed_up:.2f}" if speed_up else ""


def _text(column: Column, dense: Column) -> str:
    seconds, speed_up = times(column, dense)
    return " ".join(filter(None, [column.label, seconds, speed_up and f"({speed_up})"]))


def data(columns: Sequence[Column]) -> list[dict[str, Any]]:
    """The figures as JSON. The fidelity of identical images has no PSNR."""
    return [_data(column, dense_of(columns)) for column in columns]


def _data(column: Column, dense: Column) -> dict[str, Any]:
    speed_up = column.speed_up(dense)
    return {
        "settings": column.settings and column.settings.to_dict(),
        "seconds": column.seconds and round(column.seconds, 3),
        "speed_up": speed_up and round(speed_up, 3),
        "images": [
            {
                "index": column.positions[number] if column.positions else None,
                "seed": column.seeds[number],
                "psnr": round(each.psnr, 3) if each and math.isfinite(each.psnr) else None,
                "ssim": round(each.ssim, 5) if each else None,
            }
            for number, each in enumerate(column.fidelity)
        ],
    }
