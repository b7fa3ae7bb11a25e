"""Predicts tokens and work for an image size, dense against ToDo, without a model."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from todo.downsample import kept_tokens
from todo.families import FAMILIES, Family, attention_work, unet_work
from todo.schedule import AT_THIS_SIZE, Moment, factor_at, touches
from todo.settings import Knob, Settings

LATENT_SCALE = 8
"""Pixels per latent, per side."""

LARGEST_SIDE = 16384
"""Pixels per side of the largest picture that there is a plan for."""

_WIDTH, _HEIGHT = (
    Knob(name, kind=int, default=None, label=name.title(), help=f"{name} in pixels", minimum=64, maximum=LARGEST_SIDE)
    for name in ("width", "height")
)
_FAMILY = Knob("family", kind=str, default=None, label="Family", help="the model's family", choices=tuple(FAMILIES))
_HIRES = Knob("hires", kind=bool, default=False, label="Hires", help="the second pass of hires fix")


@dataclass(frozen=True)
class Work:
    """Multiply-accumulates of one UNet call on one picture, dense and with ToDo."""

    dense: int
    todo: int

    @property
    def change(self) -> float:
        """Relative change: -0.3 for 30 % less work."""
        return self.todo / self.dense - 1

    @property
    def times_less(self) -> float:
        """How many times less work: the speed-up, if time goes as work does."""
        return self.dense / self.todo


@dataclass(frozen=True)
class LevelPlan:
    """A self-attention level outside the middle block. `resolution` is 1 for the model's finest; `grid` is (h, w);
    `tokens` and `kept` count its keys dense and with ToDo; `blocks` counts its self-attention blocks."""

    resolution: int
    grid: tuple[int, int]
    tokens: int
    kept: int
    factor: float
    blocks: int


@dataclass(frozen=True)
class Plan:
    """What ToDo does at a size, in a step in which it is on.

    `attention` is the work of self-attention's query-key and weight-value products, `unet` that of the whole UNet.
    `window` is the share of the pass's steps between which ToDo is on. `note` says why nothing is downsampled; it is
    empty where something is.
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
        """The prediction in words: pairs of a label and its figures."""
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
    """Pixels that a side must be a multiple of, for the UNet to halve the latent evenly at every level."""
    return LATENT_SCALE * 2 ** FAMILIES[family].halvings


def plan(width: int, height: int, settings: Settings, family: str = "sd1", hires: bool = False) -> Plan:
    """Predicts what `settings` do to a picture of `width` × `height` pixels.

    Args:
        family: 'sd1', 'sd2' or 'sdxl'.
        hires: whether this is the second pass of hires fix; width and height are then the enlarged ones.

    Raises:
        SettingsError: width, height or family is not one that there is a plan for.
    """
    width, height = _WIDTH.parse(width), _HEIGHT.parse(height)
    family, hires = _FAMILY.parse(family), _HIRES.parse(hires)
    layout = FAMILIES[family]
    latent = (height // LATENT_SCALE, width // LATENT_SCALE)
    # In its first step a taper, too, has the full ratio.
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
    """Why no touched level is downsampled, as 'no effect …'; '' if one is."""
    if "" in reasons:
        return ""
    return f"no effect {reasons[0] if len(set(reasons)) == 1 else AT_THIS_SIZE}"


def _kept(levels: list[LevelPlan]) -> str:
    """Tokens before and after, by level; the share once where it is the same at all of them."""
    shares = [_share(level) for level in levels]
    shown = [f"{level.tokens} → {level.kept}" for level in levels]
    if len(set(shares)) == 1:
        return f"{', '.join(shown)} ({shares[0]})"
    return ", ".join(f"{change} ({share})" for change, share in zip(shown, shares, strict=True))


def _share(level: LevelPlan) -> str:
    """The kept share: '×¼' where it is one over a whole number, else '×0.44'."""
    whole, rest = divmod(level.tokens, level.kept)
    if rest:
        return f"×{level.kept / level.tokens:.2f}"
    return "×¼" if whole == 4 else f"×1/{whole}"


def percent(change: float) -> str:
    """A relative change in words: '−28 %' for -0.28."""
    return f"{round(100 * change):+d} %".replace("-", "−").replace("+0", "±0")
