"""The methods whose fidelity is measured. Most have a factor, so that methods which keep equally many keys are
compared."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from benchmarks import peers
from benchmarks.fidelity.phases import OFFSETS, ORDERS, patched_with_offsets, patched_with_order
from benchmarks.method import DENSE, ApplyToDo, LatentSize, Method, dense_attention, with_todo
from benchmarks.speed.methods import SD1_GRID, paper_settings, per_side
from benchmarks.tiny.model import TRAINED_GRID
from todo import Settings, patched
from todo.downsample import phase_order

TODO, FINEST_ONLY, PAPER = "ToDo", "ToDo, finest level", "the paper (finest level, fixed phase)"
TOKEN_MERGING, TILES = "ToMe (tomesd)", "tiles (HyperTile)"
ONE_KEY = "one key"
AUTHORS = "the paper, its factor for the size"

GRIDS = (64, 48, 32)
"""Keys/values kept per side that are compared."""


def named(curve: str, factor: float) -> str:
    """The name of the method at a factor on a curve; the curve's own name for factor 0."""
    return f"{curve}, f={factor:g}" if factor else curve


def of_trained(grid: int) -> str:
    """The name of the same for the embedded model: the number that is to its trained grid as `grid` is to SD1.5's."""
    return f"ToDo, {grid}/64 of the trained grid"


def with_phases(variant: str) -> str:
    """The curve of ToDo with another movement of the phase."""
    return f"{FINEST_ONLY}, phases {variant}"


@dataclass(frozen=True)
class Reduction(Method):
    """A method that reduces keys.

    Attributes:
        curve: the name shared by a plotted curve's methods, which differ only in their factor.
        factor: per side: a query attends to 1 / factor² of the finest level's tokens. 0 for methods without one.
        mark: written beside the method in a plot.
    """

    curve: str = ""
    factor: float = 0
    mark: str = ""


def _reduction(curve: str, factor: float, apply: Any) -> Reduction:
    mark = f"f={factor:g}" if factor else ""
    return Reduction(named(curve, factor), apply, curve=curve, factor=factor, mark=mark)


def _todo(curve: str, factor: float, apply: ApplyToDo = patched, **settings: Any) -> Reduction:
    """ToDo in manual mode at a factor, with further settings."""
    manual = Settings(mode="manual", factor=factor, **settings)
    return _reduction(curve, factor, with_todo(lambda latent: manual, apply))


def _auto(name: str, settings: Settings, mark: str) -> Reduction:
    """ToDo in mode auto."""
    return Reduction(name, with_todo(lambda latent: settings), curve=TODO, mark=mark)


def _all_levels(curve: str, factor: float, **settings: Any) -> Reduction:
    """ToDo with the same factor at every level, as auto mode has by default."""
    return _todo(curve, factor, deep_factor=factor, **settings)


def _merged(factor: int, unet: nn.Module, latent: LatentSize) -> AbstractContextManager[None]:
    return peers.token_merging(unet, 1 - 1 / factor**2, stride=factor)


def _tiled(factor: int, unet: nn.Module, latent: LatentSize) -> AbstractContextManager[None]:
    return peers.tiled(dict.fromkeys(peers.finest(unet), math.ceil(max(latent) / factor)))


_PHASES: dict[str, ApplyToDo] = {
    **{name: partial(patched_with_order, order=order) for name, order in ORDERS.items()},
    **{name: partial(patched_with_offsets, offsets=offsets) for name, offsets in OFFSETS.items()},
}


def _is_todos_order(name: str, factor: int) -> bool:
    """Whether an order equals ToDo's at a factor, so that measuring it would repeat ToDo."""
    return name in ORDERS and ORDERS[name](factor) == phase_order(factor)


def _kept_of_trained(grid: int) -> int:
    return grid * TRAINED_GRID // SD1_GRID


_METHODS = (
    _reduction(DENSE, 0, dense_attention),
    *(_auto(of_trained(grid), Settings(grid=_kept_of_trained(grid)), str(grid)) for grid in GRIDS),
    *(_auto(per_side(grid), Settings(grid=grid), str(grid)) for grid in GRIDS),
    *(_all_levels(TODO, factor) for factor in (2, 3, 4)),
    *(_todo(FINEST_ONLY, factor) for factor in (2, 4)),
    *(_todo(PAPER, factor, phase="fixed") for factor in (2, 3, 4)),
    _reduction(AUTHORS, 0, with_todo(paper_settings)),
    *(_reduction(TOKEN_MERGING, factor, partial(_merged, factor)) for factor in (2, 3)),
    _reduction(TILES, 2, partial(_tiled, 2)),
    _reduction(ONE_KEY, 0, lambda unet, latent: peers.one_key(unet)),
)

_VARIANTS = (
    *(
        _todo(with_phases(name), factor, apply)
        for name, apply in _PHASES.items()
        for factor in (2, 4)
        if not _is_todos_order(name, factor)
    ),
    *(_todo(f"{FINEST_ONLY}, {name}", factor, method=name) for name in ("nearest-exact",) for factor in (2, 4)),
    _todo(f"{FINEST_ONLY}, taper", 4, taper=True),
    _todo(f"{FINEST_ONLY}, from 20 % of the steps", 4, start=0.2),
)

VARIANTS = tuple(method.name for method in _VARIANTS)
"""Names of other patterns, downsampling methods and step windows, all at the finest level."""

GIVEN_UP = tuple(
    named(curve, factor)
    for curve in (with_phases("by block too"), f"{FINEST_ONLY}, bilinear", f"{FINEST_ONLY}, area")
    for factor in (2, 4)
)
"""Names of variants that were measured and are no more: each block one phase ahead of the one before, and tokens that
are blended."""

_RIVALS = (named(FINEST_ONLY, 2), named(PAPER, 2), named(TOKEN_MERGING, 2), named(TILES, 2))

PUBLISHED = (DENSE, *map(of_trained, GRIDS), *_RIVALS)
"""Names of the methods that are compared by default, dense first."""

ON_CHECKPOINTS = (DENSE, *map(per_side, GRIDS), *_RIVALS)
"""Names of the methods that are compared on a checkpoint by default, dense first."""

METHODS = {method.name: method for method in (*_METHODS, *_VARIANTS)}
"""All methods by name."""
