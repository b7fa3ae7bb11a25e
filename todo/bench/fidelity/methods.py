"""The methods whose pictures are compared, by the share of the finest level's tokens that a query still sees."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from todo import Patch, Settings, patched
from todo.bench.fidelity.orders import MOVES, ORDERS, patched_by_block, patched_in_order, patched_moving
from todo.bench.methods import DENSE, keep_one, merged, tiled
from todo.downsample import phase_order
from todo.unet import find_self_attention

OWN, FINEST_ONLY, PAPER = "ToDo", "ToDo, finest level", "the paper (finest level, fixed phase)"
UNTIL = "ToDo until 80 % of the steps"
LIMIT = "one key"

On = Callable[[nn.Module, tuple[int, int]], AbstractContextManager[Any]]
"""Puts a method on a UNet whose latent is (height, width), for a `with` block; gives ToDo's patch, if it is ToDo."""

Way = Callable[[nn.Module, Settings], AbstractContextManager[Patch]]
"""Puts ToDo on a UNet for a `with` block, as `todo.patched` does."""


def named(kind: str, factor: float) -> str:
    """The name of a method of a kind at a factor."""
    return f"{kind}, f={factor:g}" if factor else kind


def moving(way: str) -> str:
    """The kind of the methods whose phase moves in another way."""
    return f"{FINEST_ONLY}, phases {way}"


@dataclass(frozen=True)
class Method:
    """`kind` names the curve it belongs to, `factor` is per side: a query sees 1 / factor² of the finest level's
    tokens; 0 where that does not describe it."""

    kind: str
    factor: float
    on: On

    @property
    def name(self) -> str:
        return named(self.kind, self.factor)


def todo_method(kind: str, factor: float, way: Way = patched, **settings: Any) -> Method:
    """ToDo at a factor, with further settings."""
    chosen = Settings(mode="manual", factor=factor, **settings)

    def on(unet: nn.Module, latent: tuple[int, int]) -> AbstractContextManager[Patch]:
        return way(unet, chosen)

    return Method(kind, factor, on)


def _dense(unet: nn.Module, latent: tuple[int, int]) -> AbstractContextManager[None]:
    return nullcontext()


def _merged(factor: int, unet: nn.Module, latent: tuple[int, int]) -> AbstractContextManager[None]:
    return merged(unet, 1 - 1 / factor**2, stride=factor)


def _tiled(factor: int, unet: nn.Module, latent: tuple[int, int]) -> AbstractContextManager[None]:
    finest = [block for block in find_self_attention(unet) if block.resolution == 1]
    return tiled(dict.fromkeys(finest, math.ceil(max(latent) / factor)))


def _one_key(unet: nn.Module, latent: tuple[int, int]) -> AbstractContextManager[None]:
    return keep_one(unet)


_WAYS: dict[str, Way] = {
    **{name: partial(patched_in_order, order=order) for name, order in ORDERS.items()},
    "by block too": patched_by_block,
    **{name: partial(patched_moving, moved=moved) for name, moved in MOVES.items()},
}


def _is_own(name: str, factor: int) -> bool:
    return name in ORDERS and ORDERS[name](factor) == phase_order(factor)


def _all_levels(kind: str, factor: float, **settings: Any) -> Method:
    """As mode auto does it by default: the same factor at every level."""
    return todo_method(kind, factor, deep_factor=factor, **settings)


_METHODS = (
    Method(DENSE, 0, _dense),
    *(_all_levels(OWN, factor) for factor in (2, 4, 8)),
    _all_levels(UNTIL, 4, end=0.8),
    *(todo_method(FINEST_ONLY, factor) for factor in (2, 4)),
    *(todo_method(PAPER, factor, phase="fixed") for factor in (2, 4)),
    *(Method("ToMe (tomesd)", factor, partial(_merged, factor)) for factor in (2, 4)),
    Method("tiles (HyperTile)", 2, partial(_tiled, 2)),
    Method(LIMIT, 0, _one_key),
)

_STUDIED = (
    *(
        todo_method(moving(name), factor, way)
        for name, way in _WAYS.items()
        for factor in (2, 4)
        if not _is_own(name, factor)
    ),
    *(
        todo_method(f"{FINEST_ONLY}, {name}", factor, method=name)
        for name in ("nearest-exact", "bilinear", "area")
        for factor in (2, 4)
    ),
    todo_method(f"{FINEST_ONLY}, taper", 4, taper=True),
    todo_method(f"{FINEST_ONLY}, from 20 % of the steps", 4, start=0.2),
    *(todo_method(FINEST_ONLY, factor) for factor in (1.5, 3, 8)),
    *(todo_method(PAPER, factor, phase="fixed") for factor in (1.5, 3, 8)),
)

PUBLISHED = tuple(method.name for method in _METHODS)
"""The methods that are compared unless others are named, dense first."""

METHODS = {method.name: method for method in (*_METHODS, *_STUDIED)}
"""Every method by its name."""


def counterpart(method: Method) -> str:
    """The paper's own at the same factor, which a method is measured against."""
    return named(PAPER, method.factor)
