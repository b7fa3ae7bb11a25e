"""Which factor applies at a level, for a grid size, at a point of sampling, in a pass."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .downsample import kept_tokens
from .settings import Settings

# Each reason completes a sentence such as 'no effect …' or 'left whole …'.
AT_THIS_SIZE = "at this size"
IN_THIS_PASS = "in this pass"
OUTSIDE_WINDOW = "outside the step window"


@dataclass(frozen=True)
class Moment:
    """A point of sampling.

    Attributes:
        progress: the fraction of the pass's sampling steps that are done, 0 to 1.
        step: the number of steps done in this pass. It selects the phase.
        hires: whether this is the hires pass of hires. fix.
    """

    progress: float = 0.0
    step: int = 0
    hires: bool = False


def touches(settings: Settings, resolution: int) -> bool:
    """Whether the settings ever downsample a level.

    `resolution` is 1 for the model's finest self-attention level, 2 for the level at half that size, and so on.
    """
    if resolution > 1 and settings.mode == "manual" and settings.deep_factor == 1:
        return False
    return resolution <= settings.max_downsample


def why_off(settings: Settings, moment: Moment) -> str:
    """Why nothing is downsampled at a point of sampling, whatever the level and its grid; '' if something may be."""
    if settings.passes == ("first" if moment.hires else "hires"):
        return IN_THIS_PASS
    return "" if _within(settings, moment.progress) else OUTSIDE_WINDOW


def factor_at(settings: Settings, resolution: int, grid: tuple[int, int], moment: Moment) -> tuple[float, str]:
    """The downsampling factor per side for a level, and the reason if it is 1.

    Args:
        resolution: the level, as in `touches`.
        grid: the level's token grid (h, w).
        moment: the point of sampling.

    Returns:
        The factor and ''; or 1.0 and why nothing is downsampled.
    """
    reason = why_off(settings, moment)
    return (1.0, reason) if reason else factor_within(settings, resolution, grid, moment)


def factor_within(settings: Settings, resolution: int, grid: tuple[int, int], moment: Moment) -> tuple[float, str]:
    """`factor_at` where `why_off` has no objection. Without a taper, it depends on the pass alone."""
    factor = _full_factor(settings, resolution, grid, moment.hires)
    if settings.taper:
        remaining = (settings.end - moment.progress) / (settings.end - settings.start)
        factor = 1.0 + (factor - 1.0) * remaining
    # A factor that keeps every row and column changes nothing.
    if factor <= 1.0 or kept_tokens(grid, factor) == grid[0] * grid[1]:
        return 1.0, AT_THIS_SIZE
    return factor, ""


def phase_step(settings: Settings, moment: Moment) -> int | None:
    """The step that selects the pattern of kept tokens; None for the fixed grid of the paper."""
    return moment.step if settings.phase == "cycle" else None


def _within(settings: Settings, progress: float) -> bool:
    if settings.start >= settings.end:
        return False
    return settings.start <= progress and (progress < settings.end or settings.end == 1.0)


def _full_factor(settings: Settings, resolution: int, grid: tuple[int, int], hires: bool) -> float:
    if settings.mode == "auto":
        # A level of half the size was trained on half the grid. Rounded up, as a UNet rounds when it halves odd grids.
        factor = _grid_factor(max(grid), math.ceil(settings.grid / resolution))
        # Where fewer than half of the keys/values would go, that saves less than it costs.
        return factor if 2 * kept_tokens(grid, factor) <= math.prod(grid) else 1.0
    if resolution > 1:
        return settings.deep_factor
    return settings.hires_factor if hires and settings.hires_factor else settings.factor


def _grid_factor(side: int, kept: int) -> float:
    """The smallest factor that keeps at most `kept` of `side` rows or columns."""
    factor = max(side / kept, 1.0)
    # The quotient may have been rounded down. It would then keep one row too many.
    return factor if math.ceil(side / factor) <= kept else math.nextafter(factor, math.inf)
