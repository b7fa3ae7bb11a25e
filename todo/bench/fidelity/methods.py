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
from todo.bench.fidelity.orders import ORDERS, patched_in_order
from todo.bench.methods import keep_one, merged, tiled
from todo.unet import find_self_attention

DENSE, CYCLE, PAPER = "dense", "ToDo", "ToDo, fixed phase (the paper)"
LIMIT = "one key"

On = Callable[[nn.Module, tuple[int, int]], AbstractContextManager[Any]]
"""Puts a method on a UNet whose latent is (height, width), for a `with` block; gives ToDo's patch, if it is ToDo."""


@dataclass(frozen=True)
class Method:
    """`kind` names the curve it belongs to, `factor` is per side: a query sees 1 / factor² of the finest level's
    tokens; 0 where that does not describe it. `settings` are ToDo's."""

    kind: str
    factor: int
    on: On
    settings: Settings | None = None

    @property
    def name(self) -> str:
        return f"{self.kind}, f={self.factor}" if self.factor else self.kind


def todo_method(kind: str, factor: int, **settings: Any) -> Method:
    """ToDo at a factor, with further settings."""
    chosen = Settings(mode="manual", factor=factor, **settings)

    def on(unet: nn.Module, latent: tuple[int, int]) -> AbstractContextManager[Patch]:
        return patched(unet, chosen)

    return Method(kind, factor, on, chosen)


def _dense(unet: nn.Module, latent: tuple[int, int]) -> AbstractContextManager[None]:
    return nullcontext()


def _merged(factor: int, unet: nn.Module, latent: tuple[int, int]) -> AbstractContextManager[None]:
    return merged(unet, 1 - 1 / factor**2, stride=factor)


def _tiled(factor: int, unet: nn.Module, latent: tuple[int, int]) -> AbstractContextManager[None]:
    finest = [block for block in find_self_attention(unet) if block.resolution == 1]
    return tiled(dict.fromkeys(finest, math.ceil(max(latent) / factor)))


def _one_key(unet: nn.Module, latent: tuple[int, int]) -> AbstractContextManager[None]:
    return keep_one(unet)


def _ordered(order: str, factor: int) -> Method:
    """ToDo, its phase going through the cell in another order."""
    settings = Settings(mode="manual", factor=factor)

    def on(unet: nn.Module, latent: tuple[int, int]) -> AbstractContextManager[Patch]:
        return patched_in_order(unet, settings, ORDERS[order])

    return Method(f"ToDo, phases {order}", factor, on, settings)


_METHODS = (
    Method(DENSE, 0, _dense),
    *(todo_method(CYCLE, factor) for factor in (2, 4, 8)),
    *(todo_method(PAPER, factor, phase="fixed") for factor in (2, 4, 8)),
    todo_method("ToDo, area", 2, method="area"),
    *(Method("ToMe (tomesd)", factor, partial(_merged, factor)) for factor in (2, 4)),
    *(Method("tiles (HyperTile)", factor, partial(_tiled, factor)) for factor in (2, 4)),
    todo_method("ToDo from 20 % of the steps", 4, start=0.2),
    todo_method("ToDo until 80 % of the steps", 4, end=0.8),
    todo_method("ToDo, next level at 2", 4, deep_factor=2, max_downsample=2),
    Method(LIMIT, 0, _one_key),
)

_STUDIED = (
    *(_ordered(name, factor) for name in ORDERS for factor in (2, 4)),
    *(todo_method(f"ToDo, {name}", factor, method=name) for name in ("nearest-exact", "bilinear") for factor in (2, 4)),
    todo_method("ToDo, taper", 4, taper=True),
    todo_method("ToDo", 3),
    todo_method(PAPER, 3, phase="fixed"),
)

PUBLISHED = tuple(method.name for method in _METHODS)
"""The methods that are compared unless others are named, dense first."""

METHODS = {method.name: method for method in (*_METHODS, *_STUDIED)}
"""Every method by its name."""


def counterpart(method: Method) -> str:
    """The paper's own at the same factor, which a method is measured against."""
    return f"{PAPER}, f={method.factor}"
