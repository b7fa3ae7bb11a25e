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

WIDTH, HEIGHT = (
    Knob(name, kind=int, default=None, label=name.title(), help=f"{name} in pixels", minimum=64, maximum=LARGEST_SIDE)
    for name in ("width", "height")
)
_FAMILY = Knob("family", kind=str, default=None, label="Family", help="the model's family", choices=tuple(FAMILIES))
_HIRES = Knob("hires", kind=bool, default=False, label="Hires", help="whether this is the hires pass of hires. fix")


_TAPER_PARTS = 16
"""A taper is averaged over so many equal parts of the step window."""

Phrase = tuple[str, ...]
"""A text with a {} for each figure, and the figures. The page can translate the text."""


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
    """What ToDo does at an image size. Levels and work are those of a sampling step at the full ratio.

    Attributes:
        width, height: image size in pixels.
        family: 'sd1', 'sd2' or 'sdxl'.
        levels: the self-attention levels, finest first.
        attention: work of the matrix products in self-attention.
        unet: work of the whole UNet.
        overall: the same, averaged over all sampling steps of the pass: step window and taper count.
        window: start and end of the steps in which ToDo is on, as fractions of the pass's sampling steps.
        note: why nothing is downsampled; empty if something is.
    """

    width: int
    height: int
    family: str
    levels: tuple[LevelPlan, ...]
    attention: Work
    unet: Work
    overall: Work
    window: tuple[float, float]
    note: str

    @property
    def same_in_every_step(self) -> bool:
        """Whether every step of the pass has the full ratio."""
        return self.overall == self.unet

    def parts(self) -> list[Phrase]:
        """The prediction as phrases: first what ToDo is worth, then what it keeps."""
        if self.note:
            return [(self.note,)]
        saved = "about {} less UNet work" if self.same_in_every_step else "about {} less UNet work over all steps"
        return [(saved, times(self.overall.times_less)), *self.kept()]

    def kept(self) -> list[Phrase]:
        """The share of the keys that is kept, and in which steps."""
        shares = [_share(level) for level in self.levels if level.kept < level.tokens]
        start, end = self.window
        steps: list[Phrase] = [] if self.window == (0, 1) else [("steps {}", f"{100 * start:g}–{100 * end:g} %")]
        if len(shares) == 1:
            return [("keys/values {} at one level", *shares), *steps]
        if len(set(shares)) == 1:
            return [("keys/values {} at {} levels", shares[0], str(len(shares))), *steps]
        return [("keys/values {} by level", ", ".join(shares)), *steps]

    def summary(self) -> str:
        """The prediction in one line."""
        return f"{self.width}×{self.height}: " + " · ".join(text.format(*figures) for text, *figures in self.parts())

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
    width, height = WIDTH.parse(width), HEIGHT.parse(height)
    family, hires = _FAMILY.parse(family), _HIRES.parse(hires)
    layout = FAMILIES[family]
    latent = (height // LATENT_SCALE, width // LATENT_SCALE)
    # In the first step of the window, a taper still has the full ratio.
    levels, note = _levels(layout, latent, settings, Moment(progress=settings.start, hires=hires))
    kept = _kept_by_level(layout, levels)
    return Plan(
        width=width,
        height=height,
        family=family,
        levels=tuple(levels),
        attention=Work(attention_work(layout, latent, {}), attention_work(layout, latent, kept)),
        unet=Work(unet_work(layout, latent, {}), unet_work(layout, latent, kept)),
        overall=_overall(layout, latent, settings, hires),
        window=(settings.start, settings.end),
        note=note,
    )


def _levels(layout: Family, latent: tuple[int, int], settings: Settings, moment: Moment) -> tuple[list[LevelPlan], str]:
    """The self-attention levels at a point of sampling, and the note."""
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
    return levels, _note(reasons)


def _kept_by_level(layout: Family, levels: list[LevelPlan]) -> dict[int, int]:
    return {layout.finest + index: level.kept for index, level in enumerate(levels)}


def _overall(layout: Family, latent: tuple[int, int], settings: Settings, hires: bool) -> Work:
    """Work of the whole UNet, averaged over the pass."""
    dense = unet_work(layout, latent, {})
    inside = settings.end - settings.start
    parts = _TAPER_PARTS if settings.taper else 1
    saved = 0.0
    for part in range(parts):
        moment = Moment(settings.start + inside * (part + 0.5) / parts, hires=hires)
        levels, _ = _levels(layout, latent, settings, moment)
        saved += inside * (dense - unet_work(layout, latent, _kept_by_level(layout, levels))) / parts
    return Work(dense, dense - round(saved))


def _level_plan(layout: Family, level: int, resolution: int, grid: tuple[int, int], factor: float) -> LevelPlan:
    kept = kept_tokens(grid, factor)
    return LevelPlan(resolution, grid, math.prod(grid), kept, factor, layout.blocks(level))


def _note(reasons: list[str]) -> str:
    """'no effect …' if no level is downsampled, with the reason; '' if one is."""
    if "" in reasons:
        return ""
    return f"no effect {reasons[0] if len(set(reasons)) == 1 else AT_THIS_SIZE}"


def _share(level: LevelPlan) -> str:
    """The fraction kept, such as '×¼' or '×1/9'; '×0.44' if it is not one over a whole number."""
    whole, rest = divmod(level.tokens, level.kept)
    if rest:
        return f"×{level.kept / level.tokens:.2f}"
    return "×¼" if whole == 4 else f"×1/{whole}"


def times(ratio: float) -> str:
    """How many times less or faster, as text: '×1.5'. Where that would be no more than ×1.0, with two decimals."""
    return f"×{ratio:.1f}" if round(ratio, 1) > 1 else f"×{ratio:.2f}"
