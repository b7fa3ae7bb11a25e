"""Perceptual distances of two images: 0 if they are equal, and larger the more a viewer would notice.

Images are float arrays (height, width, 3) in [0, 1]. A distance is NaN where its package is not installed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from math import nan
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.similarity import Image

_UNUSED = {"IPython": "embed", "torchsummary": "summary", "torchvision": "models"}
"""What stlpips-pytorch imports but needs neither for its AlexNet nor to compare images, by module."""


def lpips(image: Image, other: Image) -> float:
    """The learned perceptual distance with a shift-tolerant AlexNet. Symmetric.

    Source: Ghildyal, Liu, "Shift-tolerant Perceptual Similarity Metric", ECCV 2022; the package stlpips-pytorch, which
    contains the network's weights.
    """
    if not find_spec("stlpips_pytorch"):
        return nan
    with torch.inference_mode():
        return float(_network()(*map(_tensor, (image, other))))


def flip(image: Image, other: Image) -> float:
    """FLIP, the mean difference that a viewer sees when two images alternate at 67 pixels per degree. Symmetric.

    Source: Andersson et al., "FLIP: A Difference Evaluator for Alternating Images", HPG 2020; the package
    flip-evaluator.
    """
    if not find_spec("flip_evaluator"):
        return nan
    import flip_evaluator

    pair = (each.astype(np.float32) for each in (other, image))
    _, mean, _ = flip_evaluator.evaluate(*pair, "LDR", applyMagma=False)
    return float(mean)


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
