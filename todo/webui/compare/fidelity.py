"""How close an image with ToDo is to the dense one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

NO_SCIKIT = "PSNR and SSIM need the package scikit-image, which this WebUI does not have"


@dataclass(frozen=True)
class Fidelity:
    """How close an image is to the dense one.

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


def as_caption(fidelity: Fidelity | None) -> str:
    """The fidelity as text, or why there is none."""
    return str(fidelity) if fidelity else NO_SCIKIT


def measured(dense: Image.Image, todo: Image.Image) -> Fidelity | None:
    """The fidelity of an image; None if scikit-image is not installed.

    Raises:
        ValueError: the images differ in size.
    """
    _check_sizes(dense, todo)
    try:
        from skimage.metrics import peak_signal_noise_ratio, structural_similarity
    except ImportError:
        return None
    expected, made = np.asarray(dense.convert("RGB")), np.asarray(todo.convert("RGB"))
    if np.array_equal(expected, made):
        return Fidelity(math.inf, 1.0)
    window = min(7, *(side - 1 + side % 2 for side in expected.shape[:2]))
    ssim = structural_similarity(expected, made, channel_axis=2, data_range=255, win_size=window)
    return Fidelity(float(peak_signal_noise_ratio(expected, made, data_range=255)), float(ssim))


def difference(dense: Image.Image, todo: Image.Image) -> np.ndarray[Any, Any]:
    """(height, width): the largest difference among the channels of each pixel, 0 to 255.

    Raises:
        ValueError: the images differ in size.
    """
    _check_sizes(dense, todo)
    expected, made = (np.asarray(image.convert("RGB"), dtype=np.int16) for image in (dense, todo))
    largest: np.ndarray[Any, Any] = np.abs(expected - made).max(axis=2)
    return largest


def _check_sizes(dense: Image.Image, todo: Image.Image) -> None:
    if dense.size != todo.size:
        raise ValueError(f"the dense image has {_size(dense)} pixels, the one with ToDo {_size(todo)}")


def _size(image: Image.Image) -> str:
    return f"{image.width}×{image.height}"
