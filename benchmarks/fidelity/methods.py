"""The methods whose fidelity is measured. Most have a factor, so that methods which keep equally many keys are
compared."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from benchmarks import peers
from benchmarks.fidelity.phases import OFFSETS, ORDERS, patched_by_block, patched_with_offsets, patched_with_order
from benchmarks.method import DENSE, ApplyToDo, LatentSize, Method, dense_attention, with_todo
from benchmarks.speed.methods import paper_settings
from todo import Settings, patched
from todo.downsample import phase_order

TODO, FINEST_ONLY, PAPER = "ToDo", "ToDo, finest level", "the paper (finest level, fixed phase)"
UNTIL = "ToDo until 80 % of the steps"
TOKEN_MERGING, TILES = "ToMe (tomesd)", "tiles (HyperTile)"
ONE_KEY = "one key"
DEFAULTS, SIDE_32 = "ToDo, defaults", "ToDo, 32 per side"
AUTHORS = "the paper, its factor for the size"


def named(curve: str, factor: float) -> str:
    """The name of the method at a factor on a curve; the curve's own name for factor 0."""
    return f"{curve}, f={factor:g}" if factor else curve


def with_phases(variant: str) -> str:
    """The curve of ToDo with another movement of the phase."""
    return f"{FINEST_ONLY}, phases {variant}"


@dataclass(frozen=True)
class Reduction(Method):
    """A method that reduces keys.

    Attributes:
        curve: the name shared by a plotted curve's methods, which differ only in their factor.
        factor: per side: a query attends to 1 / factor² of the finest level's tokens. 0 for methods without one.
    """

    curve: str = ""
    factor: float = 0


def _reduction(curve: str, factor: float, apply: Any) -> Reduction:
    return Reduction(named(curve, factor), apply, curve=curve, factor=factor)


def _todo(curve: str, factor: float, apply: ApplyToDo = patched, **settings: Any) -> Reduction:
    """ToDo in manual mode at a factor, with further settings."""
    manual = Settings(mode="manual", factor=factor, **settings)
    return _reduction(curve, factor, with_todo(lambda latent: manual, apply))


def _by_size(name: str, settings: Callable[[LatentSize], Settings]) -> Reduction:
    """ToDo with settings whose factors depend on the size of the latent."""
    return _reduction(name, 0, with_todo(settings))


def _all_levels(curve: str, factor: float, **settings: Any) -> Reduction:
    """ToDo with the same factor at every level, as auto mode has by default."""
    return _todo(curve, factor, deep_factor=factor, **settings)


def _merged(factor: int, unet: nn.Module, latent: LatentSize) -> AbstractContextManager[None]:
    return peers.token_merging(unet, 1 - 1 / factor**2, stride=factor)


def _tiled(factor: int, unet: nn.Module, latent: LatentSize) -> AbstractContextManager[None]:
    return peers.tiled(dict.fromkeys(peers.finest(unet), math.ceil(max(latent) / factor)))


_PHASES: dict[str, ApplyToDo] = {
    **{name: partial(patched_with_order, order=order) for name, order in ORDERS.items()},
    "by block too": patched_by_block,
    **{name: partial(patched_with_offsets, offsets=offsets) for name, offsets in OFFSETS.items()},
}


def _is_todos_order(name: str, factor: int) -> bool:
    """Whether an order equals ToDo's at a factor, so that measuring it would repeat ToDo."""
    return name in ORDERS and ORDERS[name](factor) == phase_order(factor)


_METHODS = (
    _reduction(DENSE, 0, dense_attention),
    *(_all_levels(TODO, factor) for factor in (2, 4, 8)),
    _all_levels(UNTIL, 4, end=0.8),
    *(_todo(FINEST_ONLY, factor) for factor in (2, 4)),
    *(_todo(PAPER, factor, phase="fixed") for factor in (2, 4)),
    *(_reduction(TOKEN_MERGING, factor, partial(_merged, factor)) for factor in (2, 4)),
    _reduction(TILES, 2, partial(_tiled, 2)),
    _reduction(ONE_KEY, 0, lambda unet, latent: peers.one_key(unet)),
)

_STUDIED = (
    *(
        _todo(with_phases(name), factor, apply)
        for name, apply in _PHASES.items()
        for factor in (2, 4)
        if not _is_todos_order(name, factor)
    ),
    *(
        _todo(f"{FINEST_ONLY}, {name}", factor, method=name)
        for name in ("nearest-exact", "bilinear", "area")
        for factor in (2, 4)
    ),
    _todo(f"{FINEST_ONLY}, taper", 4, taper=True),
    _todo(f"{FINEST_ONLY}, from 20 % of the steps", 4, start=0.2),
    *(_todo(FINEST_ONLY, factor) for factor in (1.5, 3, 8)),
    *(_todo(PAPER, factor, phase="fixed") for factor in (1.5, 3, 8)),
    _all_levels(TODO, 3),
    _reduction(TOKEN_MERGING, 3, partial(_merged, 3)),
)

_BY_SIZE = (
    _by_size(DEFAULTS, lambda latent: Settings()),
    _by_size(SIDE_32, lambda latent: Settings(grid=32)),
    _by_size(AUTHORS, paper_settings),
)

PUBLISHED = tuple(method.name for method in _METHODS)
"""Names of the methods that are compared by default, dense first."""

ON_CHECKPOINTS = (DENSE, DEFAULTS, SIDE_32, *PUBLISHED[1:])
"""Names of the methods that are compared on a checkpoint by default, dense first."""

METHODS = {method.name: method for method in (*_METHODS, *_STUDIED, *_BY_SIZE)}
"""All methods by name."""


def counterpart(method: Reduction) -> str:
    """The name of the paper's method at the same factor, which a method's error is divided by."""
    return named(PAPER, method.factor)
