"""A sheet of the tiny model's images for its model card: `python -m benchmarks.tiny sheet`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.image import imsave

from benchmarks import output
from benchmarks.sampling import Request
from benchmarks.tiny.model import MIRRORED, TRAINED_SIDE, WEIGHTS, TinyModel, load
from benchmarks.tiny.photographs import PROMPTS
from benchmarks.tiny.sampler import decode, sample

SHEET = WEIGHTS.with_name("samples.jpg")

_COLUMNS = 2
"""Prompts side by side."""


def write() -> Path:
    """Writes the sheet beside the weights."""
    output.check(SHEET)
    partial = SHEET.with_name(f"{SHEET.name}.partial")
    imsave(partial, make(load()), format="jpg", pil_kwargs={"quality": 85})
    return partial.replace(SHEET)


def make(model: TinyModel) -> Any:
    """The sheet, (height, width, 3) in [0, 1]: for each prompt two images at the trained size, two mirrored ones below
    them, and one of twice the size beside them."""
    cells = [_cell(model, prompt) for prompt in PROMPTS]
    rows = [np.concatenate(cells[start : start + _COLUMNS], axis=1) for start in range(0, len(cells), _COLUMNS)]
    return np.concatenate(rows).clip(0, 1)


def _cell(model: TinyModel, prompt: str) -> Any:
    small = [_images(model, Request(text, (0, 1), (TRAINED_SIDE,) * 2)) for text in (prompt, f"{prompt} {MIRRORED}")]
    large = _images(model, Request(prompt, (0,), (2 * TRAINED_SIDE,) * 2))
    return np.concatenate([np.concatenate(small), large], axis=1)


def _images(model: TinyModel, request: Request) -> Any:
    """The images of a request, side by side."""
    return np.concatenate(decode(model, sample(model, request)), axis=1)
