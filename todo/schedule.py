"""Which factor applies: to a level, at a grid's size, at a point of sampling, in a pass."""

from __future__ import annotations

import math
from dataclasses import dataclass

from todo.settings import Settings

# Reasons complete a sentence such as 'no effect …' or 'left whole …'.
AT_THIS_SIZE = "at this size"
IN_THIS_PASS = "in this pass"
OUTSIDE_WINDOW = "outside the step window"


@dataclass(frozen=True)
class Moment:
    """Where a generation stands. `progress` is the share of the pass's steps done, 0 to 1; `step` their number,
    which turns the phase; `hires` tells the second pass of hires fix."""

    progress: float = 0.0
    step: int = 0
    hires: bool = False


def touches(settings: Settings, resolution: int) -> bool:
    """Whether a level is within reach and not switched off. `resolution` is 1 for the model's finest self-attention,
    2 for the level at half that size, and so on."""
    if resolution > 1 and settings.mode == "manual" and settings.deep_factor == 1:
        return False
    return resolution <= settings.max_downsample


def factor_at(settings: Settings, resolution: int, grid: tuple[int, int], moment: Moment) -> tuple[float, str]:
    """The downsampling factor per side for a level's `grid` (h, w), and why it is 1 where it is ('' elsewhere)."""
    if settings.passes == ("first" if moment.hires else "hires"):
        return 1.0, IN_THIS_PASS
    if not _within(settings, moment.progress):
        return 1.0, OUTSIDE_WINDOW
    factor = _full_factor(settings, resolution, grid, moment.hires)
    if settings.taper:
        remaining = (settings.end - moment.progress) / (settings.end - settings.start)
        factor = 1.0 + (factor - 1.0) * remaining
    # A factor that keeps as many rows and columns as there are changes nothing.
    if factor <= 1.0 or all(math.ceil(side / factor) == side for side in grid):
        return 1.0, AT_THIS_SIZE
    return factor, ""


def phase_step(settings: Settings, moment: Moment) -> int | None:
    """The step that turns the phase; None, the paper's grid, where the phase is fixed."""
    return moment.step if settings.phase == "cycle" else None


def _within(settings: Settings, progress: float) -> bool:
    if settings.start >= settings.end:
        return False
    return settings.start <= progress and (progress < settings.end or settings.end == 1.0)


def _full_factor(settings: Settings, resolution: int, grid: tuple[int, int], hires: bool) -> float:
    if settings.mode == "auto":
        # A level at half the size was trained on half the grid. Rounded up, as levels halve odd grids.
        return _grid_factor(max(grid), math.ceil(settings.grid / resolution))
    if resolution > 1:
        return settings.deep_factor
    return settings.hires_factor if hires and settings.hires_factor else settings.factor


def _grid_factor(side: int, kept: int) -> float:
    """The smallest factor that keeps no more than `kept` of `side`."""
    factor = max(side / kept, 1.0)
    # The quotient may have been rounded down, and would then keep one more.
    return factor if math.ceil(side / factor) <= kept else math.nextafter(factor, math.inf)
