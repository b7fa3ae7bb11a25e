"""Predicts tokens and work for an image size, dense and with ToDo, without a model."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from .downsample import kept_tokens
from .families import FAMILIES, Family, attention_work, unet_work
from .schedule import FROM_SIZE, LATENT_SCALE, Moment, are_few, factor_at, from_size, touches
from .settings import Knob, Settings

LARGEST_SIDE = 16384
"""The largest side, in image pixels, that `plan` accepts."""

WIDTH, HEIGHT = (
    Knob(name, kind=int, default=None, label=name.title(), help=f"{name} in pixels", minimum=64, maximum=LARGEST_SIDE)
    for name in ("width", "height")
)
_FAMILY = Knob("family", kind=str, default=None, label="Family", help="the model's family", choices=tuple(FAMILIES))
_HIRES = Knob("hires", kind=bool, default=False, label="Hires", help="whether this is the hires pass of hires. fix")
STEPS = Knob("steps", kind=int, default=0, label="Steps", help="sampling steps; 0 for as many as usual", maximum=1000)

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
        why: why nothing is downsampled; empty if something is.
    """

    width: int
    height: int
    family: str
    levels: tuple[LevelPlan, ...]
    attention: Work
    unet: Work
    overall: Work
    window: tuple[float, float]
    why: Phrase

    @property
    def note(self) -> str:
        """Why nothing is downsampled, as text; '' if something is."""
        return text(self.why)

    def parts(self) -> list[Phrase]:
        """The prediction as phrases: first what ToDo is worth, then what it keeps."""
        return [self.why] if self.why else [("up to {}× faster", figure(self.overall.times_less)), *self.kept()]

    def kept(self) -> list[Phrase]:
        """The share of the keys that is kept, and in which steps."""
        kept, tokens = (
            sum(getattr(level, name) * level.blocks for level in self.levels) for name in ("kept", "tokens")
        )
        start, end = self.window
        steps: list[Phrase] = [] if self.window == (0, 1) else [("steps {}", f"{100 * start:g}–{100 * end:g} %")]
        return [("keeps {} of keys/values", f"{100 * kept / tokens:.0f} %"), *steps]

    def summary(self) -> str:
        """The prediction in one line."""
        return f"{self.width}×{self.height}: " + " · ".join(map(text, self.parts()))

    def to_dict(self) -> dict[str, Any]:
        """The plan for JSON, with `note`, `parts` and `summary`."""
        return {**asdict(self), "note": self.note, "parts": self.parts(), "summary": self.summary()}


def side_step(family: str) -> int:
    """The number of pixels that a side must be a multiple of, so that the UNet can halve the latent at every level."""
    return LATENT_SCALE * 2 ** FAMILIES[family].halvings


def plan(width: int, height: int, settings: Settings, family: str = "sd1", hires: bool = False, steps: int = 0) -> Plan:
    """Predicts the effect of `settings` on an image of `width` × `height` pixels.

    Args:
        width, height: image size in pixels, 64 to 16384.
        family: 'sd1', 'sd2' or 'sdxl'.
        hires: whether this is the hires pass of hires. fix. The size is then that of the upscaled image.
        steps: the sampling steps of the pass; 0 for as many as usual.

    Raises:
        SettingsError: a value is not allowed. Its `field` is the argument's name.
    """
    width, height = WIDTH.parse(width), HEIGHT.parse(height)
    family, hires, few_steps = _FAMILY.parse(family), _HIRES.parse(hires), are_few(STEPS.parse(steps))
    layout = FAMILIES[family]
    latent = (height // LATENT_SCALE, width // LATENT_SCALE)
    # In the first step of the window, a taper still has the full ratio.
    moment = Moment(settings.start, hires=hires, few_steps=few_steps)
    levels, reason = _levels(layout, latent, settings, moment)
    kept = _kept_by_level(layout, levels)
    return Plan(
        width=width,
        height=height,
        family=family,
        levels=tuple(levels),
        attention=Work(attention_work(layout, latent, {}), attention_work(layout, latent, kept)),
        unet=Work(unet_work(layout, latent, {}), unet_work(layout, latent, kept)),
        overall=_overall(layout, latent, settings, moment),
        window=(settings.start, settings.end),
        why=_why(reason, layout, settings),
    )


def _levels(layout: Family, latent: tuple[int, int], settings: Settings, moment: Moment) -> tuple[list[LevelPlan], str]:
    """The self-attention levels at a point of sampling, and why all are left whole; '' if one is not."""
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
    return levels, "" if "" in reasons else reasons[0]


def _kept_by_level(layout: Family, levels: list[LevelPlan]) -> dict[int, int]:
    return {layout.finest + index: level.kept for index, level in enumerate(levels)}


def _overall(layout: Family, latent: tuple[int, int], settings: Settings, moment: Moment) -> Work:
    """Work of the whole UNet, averaged over the pass."""
    dense = unet_work(layout, latent, {})
    inside = settings.end - settings.start
    parts = _TAPER_PARTS if settings.taper else 1
    saved = 0.0
    for part in range(parts):
        levels, _ = _levels(
            layout, latent, settings, replace(moment, progress=settings.start + inside * (part + 0.5) / parts)
        )
        saved += inside * (dense - unet_work(layout, latent, _kept_by_level(layout, levels))) / parts
    return Work(dense, dense - round(saved))


def _level_plan(layout: Family, level: int, resolution: int, grid: tuple[int, int], factor: float) -> LevelPlan:
    kept = kept_tokens(grid, factor)
    return LevelPlan(resolution, grid, math.prod(grid), kept, factor, layout.blocks(level))


def _why(reason: str, layout: Family, settings: Settings) -> Phrase:
    """'no effect …' with the reason and, where the image is too small, the size from which on ToDo acts."""
    if not reason:
        return ()
    size = from_size(reason, settings, layout.finest)
    return (f"no effect {reason} {FROM_SIZE}", size) if size else (f"no effect {reason}",)


def text(phrase: Phrase) -> str:
    """A phrase with its figures in place. Without figures it is any text, also one with braces."""
    return phrase[0].format(*phrase[1:]) if len(phrase) > 1 else "".join(phrase)


def figure(ratio: float) -> str:
    """How many times faster, as text: '1.6'. Where that would be no more than 1.0, with two decimals."""
    return f"{ratio:.1f}" if round(ratio, 1) > 1 else f"{ratio:.2f}"
