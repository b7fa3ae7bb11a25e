"""The methods whose speed is measured: ToDo, its alternatives, and the limit for any method that reduces keys."""

from __future__ import annotations

import math
from collections.abc import Callable

from benchmarks import peers
from benchmarks.method import DENSE, LatentSize, Method, dense_attention, settings_label, with_todo
from todo import Patch, Settings
from todo.settings import KNOBS

PAPER, HYPERTILE, LIMIT = "ToDo paper", "HyperTile", "limit"


def per_side(grid: int) -> str:
    """The name of ToDo in mode auto: at most `grid` keys/values per side at the finest level, and half as many at each
    deeper one."""
    return f"ToDo, {grid} per side"


GRIDS = (64, 48, 32)
"""Keys/values kept per side that are compared."""

DEFAULT = per_side(Settings().grid)

SD1_GRID = 64
"""Latent positions per side that SD1.5 was trained at. The authors' factors keep as many keys/values per side."""

_STEPS = 10**6
"""Single calls are timed as steps of a run of this many steps. So all rounds lie at the beginning of the step window,
for which the plan predicts, while the phase moves from round to round."""


def todo_with(settings: Settings) -> Method:
    """ToDo with the same settings at every size, named after them."""
    only_the_grid = settings == Settings(mode="auto", grid=settings.grid)
    name = per_side(settings.grid) if only_the_grid else f"ToDo {settings_label(settings)}"
    return _todo(name, lambda latent: settings)


def _todo(name: str, settings: Callable[[LatentSize], Settings]) -> Method:
    return Method(name, with_todo(settings), settings)


def paper_settings(latent: LatentSize) -> Settings:
    """The authors' settings: finest level only, the same tokens at every step, and a factor of 2 for 1024², 3 for 1536²
    and 4 for 2048², in proportion to the longer side.

    Source: the authors' demonstration for SD1.5; section 3 of the paper describes the method.
    """
    factor = max(latent) / SD1_GRID
    return Settings(mode="manual", factor=min(max(factor, 1.0), KNOBS["factor"].maximum), phase="fixed")


def set_step(patch: Patch | None, number: int = 0) -> None:
    """Sets a patch, if there is one, to `number` steps after the beginning of its step window, for a single call."""
    if patch:
        patch.at(math.ceil(patch.settings.start * _STEPS) + number, _STEPS)


_METHODS = (
    Method(DENSE, dense_attention),
    *(todo_with(Settings(grid=grid)) for grid in GRIDS),
    _todo(PAPER, paper_settings),
    Method("tomesd 0.5", lambda unet, latent: peers.token_merging(unet, 0.5)),
    Method("tomesd 0.75", lambda unet, latent: peers.token_merging(unet, 0.75)),
    Method(HYPERTILE, peers.hypertile),
    Method(LIMIT, lambda unet, latent: peers.one_key(unet)),
)

METHODS = {method.name: method for method in _METHODS}
"""All methods by name, except those made from settings on the command line."""
