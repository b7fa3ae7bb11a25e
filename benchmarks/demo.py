"""The command `demo`: one image, dense and as methods change it, from the same noise, on one sheet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks import output, style
from benchmarks.environment import describe
from benchmarks.fidelity.methods import AUTHORS, METHODS
from benchmarks.fidelity.report import label
from benchmarks.fidelity.scores import Score, score
from benchmarks.method import DENSE, NO_EFFECT, OUT_OF_MEMORY, Method, settings_label
from benchmarks.sampling import ImageModel, Request
from benchmarks.speed.methods import per_side, todo_with
from todo import Settings
from todo.settings import KNOBS

_AMPLIFICATION = 8
"""The factor by which the difference of two images is brightened."""

Panels = Mapping[str, Method]
"""What is drawn, dense first, by title."""

Made = Sequence[tuple[Score, Any]]
"""Their scores and images; None for an image that did not fit in memory."""

ON_CHECKPOINTS: Panels = {
    DENSE: METHODS[DENSE],
    "the paper": METHODS[AUTHORS],
    "ToDo, the defaults": METHODS[per_side(KNOBS["grid"].default)],
    "ToDo, 32 per side": METHODS[per_side(32)],
}


def with_settings(settings: Settings) -> Panels:
    """Dense, and ToDo with settings."""
    return {DENSE: METHODS[DENSE], f"ToDo, {settings_label(settings)}": todo_with(settings)}


def run(image_model: ImageModel, model: str, request: Request, panels: Panels, folder: Path, name: str) -> None:
    """Makes the images, writes the sheet and prints what stands on it.

    Args:
        model: its name.

    Raises:
        SettingsError: a file cannot be written.
    """
    (path,) = output.files(folder, name, "png")
    print(f"Making {request.prompt!r}, {len(panels)} times ...", flush=True)
    made = list(score(image_model, request, panels.values(), perceptual=False))
    style.save(lambda: sheet(model, request, panels, made), path, dpi=120)
    lines = [line.replace("\n", ": ") for line in _titles(panels, made)]
    print("\n".join([_about(model, request), describe(image_model.unet).where, "", *lines, "", str(path)]))


def title(name: str, found: Score, dense: Score) -> str:
    """What stands above an image: its name, how long it took, what was kept, and how close to dense it is."""
    if not found.kept:
        return f"{name}\n{OUT_OF_MEMORY}"
    parts = [f"{found.seconds:.2f} s"]
    if found is not dense and not dense.kept:
        parts.append("no dense image to compare with")
    elif found is not dense:
        parts[0] += f" (×{dense.seconds / found.seconds:.2f})"
        kept = f"keeps {found.kept[0]} of {dense.kept[0]} keys/values"
        parts += (
            [kept, f"PSNR {found.psnr:.1f} dB, SSIM {found.ssim:.3f}"] if found.mse else [f"{NO_EFFECT} at this size"]
        )
    return f"{name}\n{', '.join(parts)}"


def sheet(model: str, request: Request, panels: Panels, made: Made) -> Figure:
    """The images with their titles; of two, with their difference."""
    titles, images = _titles(panels, made), [image for _, image in made]
    if len(images) == 2 and all(image is not None for image in images):
        titles.append(f"difference, {_AMPLIFICATION} times brighter\n")
        images.append(np.clip(np.abs(images[1] - images[0]) * _AMPLIFICATION, 0, 1))
    columns = 3 if len(images) == 3 else 2
    rows = math.ceil(len(images) / columns)
    height, width = request.size
    figure = Figure(figsize=(5 * columns, rows * (5 * height / width + 0.7) + 0.9), layout="constrained")
    for axes, name, image in zip(figure.subplots(rows, columns).flat, titles, images, strict=True):
        axes.set_title(name, fontsize=10)
        axes.set_axis_off()
        if image is not None:
            axes.imshow(image, interpolation="lanczos")
    figure.suptitle(_about(model, request))
    return figure


def _titles(panels: Panels, made: Made) -> list[str]:
    return [title(name, found, made[0][0]) for name, (found, _) in zip(panels, made, strict=True)]


def _about(model: str, request: Request) -> str:
    return f"“{request.prompt}”\n{model}, {label(request.size)}, seed {request.seeds[0]}, {request.sampling}"
