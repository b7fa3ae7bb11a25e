"""What ToDo gains by image size, as measured and by arithmetic."""

from __future__ import annotations

from benchmarks.output import markdown
from benchmarks.speed.report import MODELS
from benchmarks.speed.results import Result
from docs.generate.speed import GPU, published, speedup
from todo import Settings, plan

_SIDES = (768, 1024, 1536, 2048, 3072)
_README_SIDES = (1024, 1536, 2048, 3072)

_README_GRIDS = (64, 48, 32)

_SETTINGS = {
    **{f"{grid} per side": Settings(grid=grid) for grid in _README_GRIDS},
    "64 per side, finest level only (max downsample 1)": Settings(grid=64, max_downsample=1),
}


def gains_table() -> str:
    """Speed-ups of a UNet call for square images, as measured on a GPU."""
    rows = [
        [f"{MODELS[model]}, {grid} per side", *(_measured(published(name), grid, side) for side in _README_SIDES)]
        for model, name in GPU.items()
        for grid in _README_GRIDS
    ]
    machine = published(GPU["sd1"]).environment.machine
    return (
        f"{markdown(['', *(f'{side}²' for side in _README_SIDES)], rows)}\n{machine}, float16, PyTorch's attention.\n"
    )


def _measured(result: Result, grid: int, side: int) -> str:
    """A setting's speed-up; a dash where it was not measured."""
    size = next(size for size in result.sizes if size.width == size.height == side)
    measured = speedup(result, size, grid)
    return f"×{measured:.2f}" if measured else "–"


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
