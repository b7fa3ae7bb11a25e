"""What ToDo gains by image size, as measured and by arithmetic."""

from __future__ import annotations

from benchmarks.output import markdown
from benchmarks.speed.methods import GRID_32, TODO
from benchmarks.speed.report import MODELS
from benchmarks.speed.results import Result
from docs.generate.speed import GPU, published
from todo import Settings, plan

_SIDES = (768, 1024, 1536, 2048, 3072)
_README_SIDES = (1024, 1536, 2048, 3072)

_README_METHODS = {"defaults": TODO, "32 per side": GRID_32}
"""Methods of the published speed runs."""

_SETTINGS = {
    "the defaults": Settings(),
    "32 per side": Settings(grid=32),
    "finest level only (max downsample 1)": Settings(max_downsample=1),
}


def gains_table() -> str:
    """Speed-ups of a UNet call for square images, as measured on a GPU."""
    rows = [
        [f"{MODELS[model]}, {label}", *(_measured(published(name), method, side) for side in _README_SIDES)]
        for model, name in GPU.items()
        for label, method in _README_METHODS.items()
    ]
    machine = published(GPU["sd1"]).environment.machine
    return (
        f"{markdown(['', *(f'{side}²' for side in _README_SIDES)], rows)}\n{machine}, float16, PyTorch's attention.\n"
    )


def _measured(result: Result, method: str, side: int) -> str:
    size = next(size for size in result.sizes if size.width == size.height == side)
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
