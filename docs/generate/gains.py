"""What one gains by size: by arithmetic, and as measured."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.output import markdown
from benchmarks.speed.methods import GRID_32, TODO
from docs.generate.speed import published
from todo import Settings, plan

_SIDES = (768, 1024, 1536, 2048, 3072)
_FIRST_SCREEN = (1024, 1536, 2048)

_SETTINGS = {
    "the defaults": Settings(),
    "32 per side": Settings(grid=32),
    "finest level only (max downsample 1)": Settings(max_downsample=1),
}


def gains_table() -> str:
    """Speed-up of a UNet call for squares of some sizes: SD1.5's as measured on a CPU, SDXL's by arithmetic."""
    measured = {"defaults": TODO, "32 per side": GRID_32}
    planned = {"defaults": Settings(), "32 per side": Settings(grid=32)}
    rows = [
        [f"SD1.5, {words} (measured, CPU)", *map(_measured(method), _FIRST_SCREEN)]
        for words, method in measured.items()
    ]
    rows += [
        [f"SDXL, {words} (arithmetic)", *_times_less("sdxl", settings, _FIRST_SCREEN)]
        for words, settings in planned.items()
    ]
    return markdown(["", *(f"{side}²" for side in _FIRST_SCREEN)], rows)


def _measured(method: str) -> Callable[[int], str]:
    sizes = {size.width: size for size in published().sizes if size.width == size.height}

    def cell(side: int) -> str:
        size = sizes[side]
        row = size.row(method)
        speedup = size.speedup(row) if row else None
        return f"×{speedup.median:.2f}" if speedup else ""

    return cell


def work_table() -> str:
    """How many times less work a UNet call is, by model and settings, for squares of some sizes."""
    rows = [
        [name, words, *_times_less(family, settings, _SIDES)]
        for family, name in (("sd1", "SD1.5"), ("sdxl", "SDXL"))
        for words, settings in _SETTINGS.items()
    ]
    return markdown(["", "", *(f"{side}²" for side in _SIDES)], rows)


def _times_less(family: str, settings: Settings, sides: tuple[int, ...]) -> list[str]:
    return [f"×{plan(side, side, settings, family).unet.times_less:.2f}" for side in sides]
