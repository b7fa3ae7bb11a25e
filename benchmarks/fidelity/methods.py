"""The methods whose fidelity is measured, by the share of the finest level's tokens that a query still sees."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from benchmarks import peers
from benchmarks.fidelity.phases import OFFSETS, ORDERS, patched_by_block, patched_with_offsets, patched_with_order
from benchmarks.method import DENSE, Method, PutToDoOn, Size, as_it_is, with_todo
from todo import Settings, patched
from todo.downsample import phase_order

TODO, FINEST_ONLY, PAPER = "ToDo", "ToDo, finest level", "the paper (finest level, fixed phase)"
UNTIL = "ToDo until 80 % of the steps"
TOKEN_MERGING, TILES = "ToMe (tomesd)", "tiles (HyperTile)"
ONE_KEY = "one key"


def named(curve: str, factor: float) -> str:
    """The name of a curve's method at a factor."""
    return f"{curve}, f={factor:g}" if factor else curve


def with_phases(variant: str) -> str:
    """The curve of the methods whose phase moves in another way."""
    return f"{FINEST_ONLY}, phases {variant}"


@dataclass(frozen=True)
class Reduction(Method):
    """A method at a factor per side: a query sees 1 / factor² of the finest level's tokens. `factor` is 0 where that
    does not describe it. `curve` names the curve of a plot that the method lies on."""

    curve: str = ""
    factor: float = 0


def _reduction(curve: str, factor: float, put_on: Any) -> Reduction:
    return Reduction(named(curve, factor), put_on, curve=curve, factor=factor)


def _todo(curve: str, factor: float, put_on: PutToDoOn = patched, **settings: Any) -> Reduction:
    """ToDo at a factor, with further settings."""
    chosen = Settings(mode="manual", factor=factor, **settings)
    return _reduction(curve, factor, with_todo(lambda latent: chosen, put_on))


def _all_levels(curve: str, factor: float, **settings: Any) -> Reduction:
    """The same factor at every level, as mode auto does by default."""
    return _todo(curve, factor, deep_factor=factor, **settings)


def _merged(factor: int, unet: nn.Module, latent: Size) -> AbstractContextManager[None]:
    return peers.token_merging(unet, 1 - 1 / factor**2, stride=factor)


def _tiled(factor: int, unet: nn.Module, latent: Size) -> AbstractContextManager[None]:
    return peers.tiled(dict.fromkeys(peers.finest(unet), math.ceil(max(latent) / factor)))


_PHASES: dict[str, PutToDoOn] = {
    **{name: partial(patched_with_order, order=order) for name, order in ORDERS.items()},
    "by block too": patched_by_block,
    **{name: partial(patched_with_offsets, offsets=offsets) for name, offsets in OFFSETS.items()},
}


def _is_todos_own(name: str, factor: int) -> bool:
    return name in ORDERS and ORDERS[name](factor) == phase_order(factor)


_METHODS = (
    _reduction(DENSE, 0, as_it_is),
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
        _todo(with_phases(name), factor, put_on)
        for name, put_on in _PHASES.items()
        for factor in (2, 4)
        if not _is_todos_own(name, factor)
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
)

PUBLISHED = tuple(method.name for method in _METHODS)
"""The methods that are compared unless others are named, dense first."""

METHODS = {method.name: method for method in (*_METHODS, *_STUDIED)}
"""Every method by its name."""


def counterpart(method: Reduction) -> str:
    """The paper's method at the same factor, which a method is measured against."""
    return named(PAPER, method.factor)
