"""Similarity of two images. Images are float arrays (height, width, 3) in [0, 1]."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Image = NDArray[np.float64]

_SMALLEST_ERROR = 1e-10
_LUMINANCE = (0.2126, 0.7152, 0.0722)
"""Weights of red, green and blue, by Rec. 709."""

_UNUSED = {"IPython": "embed", "torchsummary": "summary", "torchvision": "models"}
"""What stlpips-pytorch imports but needs neither for its AlexNet nor to compare images, by module."""


def psnr(image: Image, other: Image) -> float:
    """Peak signal-to-noise ratio in dB, at most 100, so that a mean that includes equal images stays finite."""
    error = np.mean((image - other) ** 2)
    return float(-10 * np.log10(max(error, _SMALLEST_ERROR)))


def ssim(image: Image, other: Image) -> float:
    """Structural similarity, at most 1, which equal images have."""
    from skimage.metrics import structural_similarity

    return float(structural_similarity(image, other, channel_axis=2, data_range=1.0))


def high_pass(image: Image) -> float:
    """The mean absolute value after a high pass, in grey levels from 0 to 255: how much fine detail an image has.

    The paper reports such a figure, without naming its filter. Here it is the luminance's Laplacian, so only ratios of
    this figure can be compared with the paper's.
    """
    from scipy.ndimage import laplace

    return float(255 * np.mean(np.abs(laplace(image @ np.array(_LUMINANCE)))))


def lpips(image: Image, other: Image) -> float:
    """The learned perceptual distance: 0 for equal images, and more the more a viewer would notice. Symmetric.

    It is the variant with a shift-tolerant AlexNet.

    Source: Ghildyal, Liu, "Shift-tolerant Perceptual Similarity Metric", ECCV 2022; the package stlpips-pytorch, which
    contains the network's weights.
    """
    with torch.inference_mode():
        return float(_network()(*map(_tensor, (image, other))))


def _tensor(image: Image) -> Tensor:
    """(1, 3, height, width) in [−1, 1]."""
    return torch.from_numpy(image).float().permute(2, 0, 1)[None] * 2 - 1


@cache
def _network() -> Any:
    with _stand_ins():
        from stlpips_pytorch.stlpips import LPIPS
    return LPIPS(net="alex", variant="shift_tolerant", verbose=False)


@contextmanager
def _stand_ins() -> Iterator[None]:
    """Empty modules in place of what stlpips-pytorch imports without need, where that is not installed."""
    missing = [name for name in _UNUSED if name not in sys.modules and not find_spec(name)]
    for name in missing:
        sys.modules[name] = ModuleType(name)
        setattr(sys.modules[name], _UNUSED[name], None)
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]
