"""The methods whose fidelity is measured. Most have a factor, so that methods which keep equally many keys are
compared."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, NamedTuple

from torch import nn

from benchmarks import peers
from benchmarks.method import DENSE, LatentSize, Method, dense_attention, with_todo
from benchmarks.speed.methods import GRIDS, SD1_GRID, paper_settings, per_side
from benchmarks.tiny.model import TRAINED_GRID
from todo import Settings
from todo.downsample import kept_indices
from todo.schedule import Moment, are_few, factor_at, phase_step, touches

TODO, FINEST_ONLY, PAPER = "ToDo", "ToDo, finest level", "the paper (finest level, fixed phase)"
TOKEN_MERGING, TILES = "ToMe (tomesd)", "tiles (HyperTile)"
ONE_KEY = "one key"
AUTHORS = "the paper, its factor for the size"


class Layout(NamedTuple):
    """Where a UNet has self-attention.

    Attributes:
        latent: (height, width).
        depths: how many times the latent is halved, for each level outside the middle block, finest first.
    """

    latent: LatentSize
    depths: tuple[int, ...]

    def levels(self) -> Iterator[tuple[int, tuple[int, int]]]:
        """The resolution of each level, 1 for the finest, and its token grid (h, w)."""
        for depth in self.depths:
            height, width = (math.ceil(side / 2**depth) for side in self.latent)
            yield 2 ** (depth - self.depths[0]), (height, width)


def named(curve: str, factor: float) -> str:
    """The name of the method at a factor on a curve; the curve's own name for factor 0."""
    return f"{curve}, f={factor:g}" if factor else curve


def of_trained(grid: int) -> str:
    """The name of the same for the embedded model: the number that is to its trained grid as `grid` is to SD1.5's."""
    return f"ToDo, {grid}/64 of the trained grid"


def kept_of_trained(grid: int) -> int:
    """That number."""
    return grid * TRAINED_GRID // SD1_GRID


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


def picks(method: Method, layout: Layout, steps: int) -> str:
    """Which tokens dense attention or ToDo keeps at every level and sampling step, as a checksum: two methods with the
    same picks make the same images. '' for other methods, whose tokens depend on the image."""
    if method.name == DENSE:
        return _picks(Settings(mode="manual", factor=1), layout, steps)
    return _picks(method.settings(layout.latent), layout, steps) if method.settings else ""


@cache
def _picks(settings: Settings, layout: Layout, steps: int) -> str:
    digest = hashlib.sha256()
    for step in range(steps):
        moment = Moment(step / steps, step, few_steps=are_few(steps))
        for resolution, grid in layout.levels():
            factor = factor_at(settings, resolution, grid, moment)[0] if touches(settings, resolution) else 1.0
            phase = phase_step(settings, moment) if factor > 1 else None
            digest.update(kept_indices(grid, factor, settings.method, phase).numpy().tobytes())
    return digest.hexdigest()[:12]


def _rival(curve: str, factor: float, apply: Any) -> Reduction:
    return Reduction(named(curve, factor), apply, curve=curve, factor=factor, mark=f"f={factor:g}" if factor else "")


def _todo(name: str, settings: Callable[[LatentSize], Settings], **fields: Any) -> Reduction:
    return Reduction(name, with_todo(settings), settings, **fields)


def _manual(curve: str, factor: float, **settings: Any) -> Reduction:
    """ToDo in manual mode at a factor, with further settings."""
    manual = Settings(mode="manual", factor=factor, **settings)
    return _todo(named(curve, factor), lambda latent: manual, curve=curve, factor=factor, mark=f"f={factor:g}")


def _auto(name: str, grid: int, mark: int) -> Reduction:
    """ToDo in mode auto."""
    auto = Settings(grid=grid)
    return _todo(name, lambda latent: auto, curve=TODO, mark=str(mark))


def _merged(factor: int, unet: nn.Module, latent: LatentSize) -> AbstractContextManager[None]:
    return peers.token_merging(unet, 1 - 1 / factor**2, stride=factor)


def _tiled(factor: int, unet: nn.Module, latent: LatentSize) -> AbstractContextManager[None]:
    return peers.tiled(dict.fromkeys(peers.finest(unet), math.ceil(max(latent) / factor)))


_METHODS = (
    _rival(DENSE, 0, dense_attention),
    *(_auto(of_trained(grid), kept_of_trained(grid), grid) for grid in GRIDS),
    *(_auto(per_side(grid), grid, grid) for grid in GRIDS),
    *(_manual(TODO, factor, deep_factor=factor) for factor in (2, 3, 4)),
    *(_manual(FINEST_ONLY, factor) for factor in (2, 4)),
    *(_manual(PAPER, factor, phase="fixed") for factor in (2, 3, 4)),
    _todo(AUTHORS, paper_settings, curve=AUTHORS),
    *(_rival(TOKEN_MERGING, factor, partial(_merged, factor)) for factor in (2, 3)),
    _rival(TILES, 2, partial(_tiled, 2)),
    _rival(ONE_KEY, 0, lambda unet, latent: peers.one_key(unet)),
)

METHODS: Mapping[str, Reduction] = {method.name: method for method in _METHODS}
"""All methods by name."""

_RIVALS = (named(FINEST_ONLY, 2), named(PAPER, 2), named(TOKEN_MERGING, 2), named(TILES, 2))

PUBLISHED = (DENSE, *map(of_trained, GRIDS), *_RIVALS)
"""Names of the methods that are compared by default, dense first."""

ON_CHECKPOINTS = (DENSE, *map(per_side, GRIDS), *_RIVALS)
"""Names of the methods that are compared on a checkpoint by default, dense first."""
