"""Which factor applies at a level, for a grid size, at a point of sampling, in a pass."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .downsample import kept_tokens
from .settings import Settings

# Each reason completes a sentence such as 'no effect …' or 'left whole …'.
AT_THIS_SIZE = "at this size"
IN_SO_FEW_STEPS = "at this size in so few steps"
KEEPS_ALL = "at a ratio that keeps every token"
IN_THIS_PASS = "in this pass"
OUTSIDE_WINDOW = "outside the step window"
EMPTY_WINDOW = "with an empty step window"

FROM_SIZE = "(it acts from about {} on)"
"""What follows where an image is too small."""

LATENT_SCALE = 8
"""Image pixels per latent pixel, per side."""

# The rule of mode auto. The study chose its numbers (docs/fidelity.md).
_SMALLEST = 1.25
"""It acts from this many times the wanted number of keys/values per side on."""
_LEAST_RATIO = 2.0
"""Where it acts, it keeps at most half per side."""
_FEW = 8
"""In so few steps the moving pattern has little to average."""
_MORE_IN_FEW_STEPS = 4 / 3
"""So many times more keys/values per side are wanted then."""


@dataclass(frozen=True)
class Moment:
    """A point of sampling.

    Attributes:
        progress: the fraction of the pass's sampling steps that are done, 0 to 1.
        step: the number of steps done in this pass. It selects the phase.
        hires: whether this is the hires pass of hires. fix.
        few_steps: whether the pass has too few steps for the pattern to average out, as `are_few` says.
    """

    progress: float = 0.0
    step: int = 0
    hires: bool = False
    few_steps: bool = False


def touches(settings: Settings, resolution: int) -> bool:
    """Whether the settings ever downsample a level.

    `resolution` is 1 for the model's finest self-attention level, 2 for the level at half that size, and so on.
    """
    if resolution > 1 and settings.mode == "manual" and settings.deep_factor == 1:
        return False
    return resolution <= settings.max_downsample


def are_few(steps: int) -> bool:
    """Whether mode auto keeps more tokens because a pass has few steps. 0 means that their number is not known."""
    return 0 < steps <= _FEW


def from_size(reason: str, settings: Settings, depth: int) -> str:
    """The image size in pixels from which on mode auto acts, such as '480×480', where a level is left whole because the
    image is too small; '' where it is left whole for another reason. Other formats count by their area.

    Args:
        depth: how many times the latent is halved before the finest level.
    """
    if reason not in (AT_THIS_SIZE, IN_SO_FEW_STEPS):
        return ""
    side = math.ceil(_SMALLEST * _wanted(settings, reason == IN_SO_FEW_STEPS)) * LATENT_SCALE * 2**depth
    return f"{side}×{side}"


def why_off(settings: Settings, moment: Moment) -> str:
    """Why nothing is downsampled at a point of sampling, whatever the level and its grid; '' if something may be."""
    if settings.passes == ("first" if moment.hires else "hires"):
        return IN_THIS_PASS
    if settings.start == settings.end:
        return EMPTY_WINDOW
    is_within = settings.start <= moment.progress and (moment.progress < settings.end or settings.end == 1.0)
    return "" if is_within else OUTSIDE_WINDOW


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
    """`factor_at` where `why_off` has no objection. Without a taper, it depends on the pass and its steps alone."""
    if settings.mode == "auto":
        factor, reason = _auto_factor(settings, resolution, grid, moment.few_steps)
        if reason:
            return 1.0, reason
    elif resolution > 1:
        factor = settings.deep_factor
    else:
        factor = settings.hires_factor if moment.hires and settings.hires_factor else settings.factor
    if settings.taper:
        remaining = (settings.end - moment.progress) / (settings.end - settings.start)
        factor = 1.0 + (factor - 1.0) * remaining
    if factor <= 1.0 or kept_tokens(grid, factor) == grid[0] * grid[1]:
        return 1.0, KEEPS_ALL
    return factor, ""


def phase_step(settings: Settings, moment: Moment) -> int | None:
    """The step that selects the pattern of kept tokens; None for the fixed grid of the paper."""
    return moment.step if settings.phase == "cycle" else None


def _auto_factor(settings: Settings, resolution: int, grid: tuple[int, int], few_steps: bool) -> tuple[float, str]:
    """The same ratio at every level: about `settings.grid`² keys/values of the finest one remain, in any format."""
    # A level's own grid tells that of the finest one, up to the rounding of odd sides.
    side, wanted = math.sqrt(grid[0] * grid[1]) * resolution, _wanted(settings, few_steps)
    if side < _SMALLEST * wanted:
        return 1.0, IN_SO_FEW_STEPS if few_steps else AT_THIS_SIZE
    return max(side / wanted, _LEAST_RATIO), ""


def _wanted(settings: Settings, few_steps: bool) -> float:
    """The wanted number of keys/values per side of a square finest level."""
    return settings.grid * (_MORE_IN_FEW_STEPS if few_steps else 1)
