"""How near one picture is to another. Pictures are float arrays (height, width, 3) in [0, 1]."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float64]

_LEAST_ERROR = 1e-10
_LUMINANCE = (0.2126, 0.7152, 0.0722)


def psnr(picture: Picture, other: Picture) -> float:
    """Peak signal-to-noise ratio in dB, at most 100, so that means over equal pictures stay finite."""
    error = np.mean((picture - other) ** 2)
    return float(-10 * np.log10(max(error, _LEAST_ERROR)))


def ssim(picture: Picture, other: Picture) -> float:
    """Structural similarity: 1 for equal pictures."""
    from skimage.metrics import structural_similarity

    return float(structural_similarity(picture, other, channel_axis=2, data_range=1.0))


def detail(picture: Picture, other: Picture) -> float:
    """The energy of fine detail, relative to the other picture's: 1 where it is the same, less where it is blurred."""
    return _fine_energy(picture) / _fine_energy(other)


def _fine_energy(picture: Picture) -> float:
    """Energy of the luminance's Laplacian, which leaves high spatial frequencies."""
    from scipy.ndimage import laplace

    return float(np.mean(laplace(picture @ np.array(_LUMINANCE)) ** 2))
