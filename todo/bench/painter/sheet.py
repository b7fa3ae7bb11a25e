"""What the model draws, on one sheet for its card: `python -m todo.bench.painter.sheet`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.image import imsave

from todo.bench.painter.painter import MIRRORED, TRAINED_SIDE, WEIGHTS, Painter, load
from todo.bench.painter.photographs import PROMPTS
from todo.bench.painter.sampler import Order, draw, pictures

SHEET = WEIGHTS.with_name("drawn.jpg")

_COLUMNS = 2
"""Prompts side by side."""


def save(path: Path = SHEET) -> None:
    imsave(path, make(load()), pil_kwargs={"quality": 85})


def make(painter: Painter) -> Any:
    """Of each prompt two pictures at the trained size, below them two mirrored ones, and one of twice the size:
    (height, width, 3) in [0, 1]."""
    cells = [_cell(painter, prompt) for prompt in PROMPTS]
    rows = [np.concatenate(cells[at : at + _COLUMNS], axis=1) for at in range(0, len(cells), _COLUMNS)]
    return np.concatenate(rows).clip(0, 1)


def _cell(painter: Painter, prompt: str) -> Any:
    small = [_drawn(painter, Order(text, (0, 1), (TRAINED_SIDE,) * 2)) for text in (prompt, f"{prompt} {MIRRORED}")]
    large = _drawn(painter, Order(prompt, (0,), (2 * TRAINED_SIDE,) * 2))
    return np.concatenate([np.concatenate(small), large], axis=1)


def _drawn(painter: Painter, order: Order) -> Any:
    return np.concatenate(pictures(painter, draw(painter, order)), axis=1)


if __name__ == "__main__":
    save()
