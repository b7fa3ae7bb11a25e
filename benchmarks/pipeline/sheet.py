"""The command `demo --pipeline`: one sheet of an image of a checkpoint, dense and as methods change it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks import style
from benchmarks.environment import Environment, describe
from benchmarks.fidelity.methods import AUTHORS
from benchmarks.fidelity.report import OUT_OF_MEMORY, label, machine
from benchmarks.fidelity.scores import Score, score
from benchmarks.method import DENSE
from benchmarks.sampling import ImageModel, Request
from benchmarks.speed.methods import per_side
from todo.settings import KNOBS

_PANELS = {
    DENSE: DENSE,
    AUTHORS: "the paper",
    per_side(KNOBS["grid"].default): "ToDo, the defaults",
    per_side(32): "ToDo, 32 per side",
}
"""Titles by method."""


@dataclass(frozen=True)
class Sheet:
    """The images and their scores, by method. There is no image where it did not fit in memory."""

    model: str
    request: Request
    environment: Environment
    scores: dict[str, Score]
    images: dict[str, Any]


def run(image_model: ImageModel, model: str, request: Request, path: Path) -> Sheet:
    """Makes the images, writes the sheet and prints what stands on it.

    Args:
        model: the checkpoint's name.
    """
    print(f"Making {request.prompt!r}, {len(_PANELS)} times ...", flush=True)
    sheet = make(image_model, model, request)
    style.save(lambda: draw(sheet), path, dpi=150)
    lines = [title(sheet, method).replace("\n", ": ") for method in _PANELS]
    print("\n".join([_about(sheet), *lines, "", str(path)]))
    return sheet


def make(image_model: ImageModel, model: str, request: Request) -> Sheet:
    scored = {
        each.scores[0].method: each for each in score(image_model, request, list(_PANELS), probed=(), perceptual=False)
    }
    scores = {method: each.scores[0] for method, each in scored.items()}
    images = {method: each.images[0] for method, each in scored.items() if each.images}
    return Sheet(model, request, describe(image_model.unet), scores, images)


def title(sheet: Sheet, method: str) -> str:
    """What stands above an image: its name, and how fast and how close to dense it is."""
    if method not in sheet.images:
        return f"{_PANELS[method]}\n{OUT_OF_MEMORY}"
    seconds = f"{sheet.scores[method].seconds:.1f} s"
    if method == DENSE:
        return f"{_PANELS[method]}\n{seconds}"
    if DENSE not in sheet.images:
        return f"{_PANELS[method]}\n{seconds}, no dense image to compare with"
    ratio = sheet.scores[DENSE].seconds / sheet.scores[method].seconds
    return f"{_PANELS[method]}\n{seconds} (×{ratio:.2f}), PSNR {sheet.scores[method].psnr:.1f} dB"


def draw(sheet: Sheet) -> Figure:
    height, width = sheet.request.size
    figure = Figure(figsize=(13, 13 * height / width + 1.2), layout="constrained")
    for axes, method in zip(figure.subplots(2, 2).flat, _PANELS, strict=True):
        axes.set_title(title(sheet, method))
        axes.set_axis_off()
        if method in sheet.images:
            axes.imshow(sheet.images[method])
    figure.suptitle(_about(sheet))
    return figure


def _about(sheet: Sheet) -> str:
    request = sheet.request
    what = f"{sheet.model}, {label(request.size)}, seed {request.seeds[0]}, {request.sampling}"
    return f"“{request.prompt}”\n{what}\n{machine(sheet.environment)}"
