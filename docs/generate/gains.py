"""What ToDo gains by image size, as measured and by arithmetic."""

from __future__ import annotations

from benchmarks.output import markdown
from benchmarks.speed.methods import GRID_32, TODO
from benchmarks.speed.report import MODELS
from docs.generate.speed import published
from todo import Settings, plan

_SIDES = (768, 1024, 1536, 2048, 3072)
_README_SIDES = (1024, 1536, 2048)

_README_SETTINGS = {
    "defaults": (TODO, Settings()),
    "32 per side": (GRID_32, Settings(grid=32)),
}
"""Methods of the published speed run, and their settings."""

_SETTINGS = {
    "the defaults": Settings(),
    "32 per side": Settings(grid=32),
    "finest level only (max downsample 1)": Settings(max_downsample=1),
}


def gains_table() -> str:
    """Speed-ups of a UNet call for square images: SD1.5's as measured on a CPU, SDXL's by arithmetic."""
    rows = [
        [f"SD1.5, {label} (measured, CPU)", *(_measured(method, side) for side in _README_SIDES)]
        for label, (method, _) in _README_SETTINGS.items()
    ]
    rows += [
        [f"SDXL, {label} (arithmetic)", *_times_less("sdxl", settings, _README_SIDES)]
        for label, (_, settings) in _README_SETTINGS.items()
    ]
    return markdown(["", *(f"{side}²" for side in _README_SIDES)], rows)


def _measured(method: str, side: int) -> str:
    size = next(size for size in published().sizes if size.width == size.height == side)
    row = size.row(method)
    speedup = size.speedup(row) if row else None
    return f"×{speedup.median:.2f}" if speedup else ""


def work_table() -> str:
    """How many times less work a UNet call takes for square images, by model and settings."""
    rows = [
        [MODELS[family], label, *_times_less(family, settings, _SIDES)]
        for family in ("sd1", "sdxl")
        for label, settings in _SETTINGS.items()
    ]
    return markdown(["", "", *(f"{side}²" for side in _SIDES)], rows)


def _times_less(family: str, settings: Settings, sides: tuple[int, ...]) -> list[str]:
    return [f"×{plan(side, side, settings, family).unet.times_less:.2f}" for side in sides]
