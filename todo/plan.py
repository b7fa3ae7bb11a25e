"""Predicts tokens and work for an image size, dense and with ToDo, without a model."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from .downsample import kept_tokens
from .families import FAMILIES, Family, attention_work, unet_work
from .schedule import AT_THIS_SIZE, Moment, factor_at, touches
from .settings import Knob, Settings

LATENT_SCALE = 8
"""Image pixels per latent pixel, per side."""

LARGEST_SIDE = 16384
"""The largest side, in image pixels, that `plan` accepts."""

_WIDTH, _HEIGHT = (
    Knob(name, kind=int, default=None, label=name.title(), help=f"{name} in pixels", minimum=64, maximum=LARGEST_SIDE)
    for name in ("width", "height")
)
_FAMILY = Knob("family", kind=str, default=None, label="Family", help="the model's family", choices=tuple(FAMILIES))
_HIRES = Knob("hires", kind=bool, default=False, label="Hires", help="whether this is the hires pass of hires. fix")


@dataclass(frozen=True)
class Work:
    """Multiply-accumulates of one UNet call for one image, dense and with ToDo."""

    dense: int
    todo: int

    @property
    def change(self) -> float:
        """The relative change: -0.3 means 30 % less work."""
        return self.todo / self.dense - 1

    @property
    def times_less(self) -> float:
        """Dense work divided by work with ToDo: the speed-up, if time is proportional to work."""
        return self.dense / self.todo


@dataclass(frozen=True)
class LevelPlan:
    """A self-attention level, without the middle block.

    Attributes:
        resolution: 1 for the model's finest level, 2 for the level at half that size, and so on.
        grid: the token grid (h, w).
        tokens: keys per image, dense.
        kept: keys per image, with ToDo.
        factor: downsampling ratio per side; 1 if the level is left whole.
        blocks: number of self-attention blocks.
    """

    resolution: int
    grid: tuple[int, int]
    tokens: int
    kept: int
    factor: float
    blocks: int


@dataclass(frozen=True)
class Plan:
    """What ToDo does at an image size, in a sampling step in which it is on.

    Attributes:
        width, height: image size in pixels.
        family: 'sd1', 'sd2' or 'sdxl'.
        levels: the self-attention levels, finest first.
        attention: work of the matrix products in self-attention.
        unet: work of the whole UNet.
        window: start and end of the steps in which ToDo is on, as fractions of the pass's sampling steps.
        note: why nothing is downsampled; empty if something is.
    """

    width: int
    height: int
    family: str
    levels: tuple[LevelPlan, ...]
    attention: Work
    unet: Work
    window: tuple[float, float]
    note: str

    def parts(self) -> list[tuple[str, str]]:
        """The prediction as pairs of a label and its figures. The label is text that the page can translate."""
        if self.note:
            return [(self.note, "")]
        changed = [level for level in self.levels if level.kept < level.tokens]
        start, end = self.window
        steps = [] if self.window == (0, 1) else [("steps", f"{100 * start:g}–{100 * end:g} %")]
        return [
            ("keys/values", _kept(changed)),
            ("self-attention work", percent(self.attention.change)),
            ("UNet work", percent(self.unet.change)),
            *steps,
        ]

    def summary(self) -> str:
        """The prediction in one line."""
        return f"{self.width}×{self.height}: " + " · ".join(" ".join(part).strip() for part in self.parts())

    def to_dict(self) -> dict[str, Any]:
        """The plan for JSON, with `parts` and `summary`."""
        return {**asdict(self), "parts": self.parts(), "summary": self.summary()}


def side_step(family: str) -> int:
    """The number of pixels that a side must be a multiple of, so that the UNet can halve the latent at every level."""
    return LATENT_SCALE * 2 ** FAMILIES[family].halvings


def plan(width: int, height: int, settings: Settings, family: str = "sd1", hires: bool = False) -> Plan:
    """Predicts the effect of `settings` on an image of `width` × `height` pixels.

    Args:
        width, height: image size in pixels, 64 to 16384.
        family: 'sd1', 'sd2' or 'sdxl'.
        hires: whether this is the hires pass of hires. fix. The size is then that of the upscaled image.

    Raises:
        SettingsError: a value is not allowed. Its `field` is 'width', 'height', 'family' or 'hires'.
    """
    width, height = _WIDTH.parse(width), _HEIGHT.parse(height)
    family, hires = _FAMILY.parse(family), _HIRES.parse(hires)
    layout = FAMILIES[family]
    latent = (height // LATENT_SCALE, width // LATENT_SCALE)
    # In the first step of the window, a taper still has the full ratio.
    moment = Moment(progress=settings.start, hires=hires)
    levels = []
    reasons = []
    for level, depth in enumerate(layout.depths):
        if depth:
            resolution = 2 ** (level - layout.finest)
            grid = layout.grid(latent, level)
            factor, reason = 1.0, ""
            if touches(settings, resolution):
                factor, reason = factor_at(settings, resolution, grid, moment)
                reasons.append(reason)
            levels.append(_level_plan(layout, level, resolution, grid, factor))
    kept = {layout.finest + index: level.kept for index, level in enumerate(levels)}
    return Plan(
        width=width,
        height=height,
        family=family,
        levels=tuple(levels),
        attention=Work(attention_work(layout, latent, {}), attention_work(layout, latent, kept)),
        unet=Work(unet_work(layout, latent, {}), unet_work(layout, latent, kept)),
        window=(settings.start, settings.end),
        note=_note(reasons),
    )


def _level_plan(layout: Family, level: int, resolution: int, grid: tuple[int, int], factor: float) -> LevelPlan:
    kept = kept_tokens(grid, factor)
    return LevelPlan(resolution, grid, math.prod(grid), kept, factor, layout.blocks(level))


def _note(reasons: list[str]) -> str:
    """'no effect …' if no level is downsampled, with the reason; '' if one is."""
    if "" in reasons:
        return ""
    return f"no effect {reasons[0] if len(set(reasons)) == 1 else AT_THIS_SIZE}"


def _kept(levels: list[LevelPlan]) -> str:
    """Keys before and after, by level. The ratio is shown once if it is the same at all levels."""
    shares = [_share(level) for level in levels]
    shown = [f"{level.tokens} → {level.kept}" for level in levels]
    if len(set(shares)) == 1:
        return f"{', '.join(shown)} ({shares[0]})"
    return ", ".join(f"{change} ({share})" for change, share in zip(shown, shares, strict=True))


def _share(level: LevelPlan) -> str:
    """The fraction kept, such as '×¼' or '×1/9'; '×0.44' if it is not one over a whole number."""
    whole, rest = divmod(level.tokens, level.kept)
    if rest:
        return f"×{level.kept / level.tokens:.2f}"
    return "×¼" if whole == 4 else f"×1/{whole}"


def percent(change: float) -> str:
    """A relative change as text: '−28 %' for -0.28."""
    return f"{round(100 * change):+d} %".replace("-", "−").replace("+0", "±0")
