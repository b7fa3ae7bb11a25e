"""Similarity of two images. Images are float arrays (height, width, 3) in [0, 1]."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float64]

_SMALLEST_ERROR = 1e-10
_LUMINANCE = (0.2126, 0.7152, 0.0722)
"""Weights of red, green and blue, by Rec. 709."""


def psnr(image: Image, other: Image) -> float:
    """Peak signal-to-noise ratio in dB, at most 100, so that a mean that includes equal images stays finite."""
    error = np.mean((image - other) ** 2)
    return float(-10 * np.log10(max(error, _SMALLEST_ERROR)))


def ssim(image: Image, other: Image) -> float:
    """Structural similarity, at most 1, which equal images have."""
    from skimage.metrics import structural_similarity

    return float(structural_similarity(image, other, channel_axis=2, data_range=1.0))


def detail(image: Image, other: Image) -> float:
    """The energy of fine detail relative to the other image's: 1 if equal, less if details are blurred."""
    return _fine_energy(image) / _fine_energy(other)


def high_pass(image: Image) -> float:
    """The mean absolute value after a high pass, in grey levels from 0 to 255: how much fine detail an image has.

    The paper reports such a figure, without naming its filter. Here it is the luminance's Laplacian, so only ratios of
    this figure can be compared with the paper's.
    """
    return float(255 * np.mean(np.abs(_fine(image))))


def _fine_energy(image: Image) -> float:
    return float(np.mean(_fine(image) ** 2))


def _fine(image: Image) -> Image:
    """The Laplacian of the luminance, which responds to high spatial frequencies."""
    from scipy.ndimage import laplace

    filtered: Image = laplace(image @ np.array(_LUMINANCE))
    return filtered
