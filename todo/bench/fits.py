"""How large a picture fits into a given memory, by method and by how attention is computed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from todo.bench.memory import Shadow
from todo.bench.methods import DENSE, GRID_32, LIMIT, METHODS
from todo.bench.models import MATRIX, SDPA, architecture
from todo.bench.report import markdown

KERNELS = {SDPA: "scaled_dot_product_attention", MATRIX: "the matrix of scores written out"}
GIB = 2**30

_METHODS = (DENSE, "ToDo", GRID_32, "tomesd 0.5", LIMIT)
_SIDES = (512, 1024, 1536, 2048)


@dataclass(frozen=True)
class Fit:
    """One method with one way of computing attention: the peak memory in bytes of a call on a square picture, by its
    side in pixels, and the largest side that fits."""

    kernel: str
    method: str
    peaks: dict[int, int]
    largest: int


@dataclass(frozen=True)
class Fits:
    """What fits into `budget` bytes above weights and inputs, in float32; float16 halves every figure."""

    model: str
    batch: int
    budget: int
    rows: tuple[Fit, ...]


def find(model: str, batch: int, budget: int) -> Fits:
    """Works out peaks and largest sides from the shapes alone, so that it takes no memory and little time."""
    rows = []
    for kernel in KERNELS:
        # Memory that is never written to is not taken.
        unet = architecture(model, torch.float32, kernel=kernel).to_empty(device="cpu")
        shadow = Shadow(unet, model)
        for name in _METHODS:
            method = METHODS[name]
            peaks = {side: shadow.peak(method, (side, side), batch) for side in _SIDES}
            rows.append(Fit(kernel, name, peaks, shadow.largest_side(method, budget, batch)))
    return Fits(model, batch, budget, tuple(rows))


def table(fits: Fits) -> str:
    """The figures in Markdown, which reads well as text too."""
    sides = list(fits.rows[0].peaks)
    head = ["attention", "method", *(f"{side}²" for side in sides), f"largest square in {fits.budget / GIB:g} GiB"]
    rows = [
        [KERNELS[row.kernel], row.method, *(f"{row.peaks[side] / GIB:.2f} GiB" for side in sides), f"{row.largest}²"]
        for row in fits.rows
    ]
    return markdown(head, rows)


def write(fits: Fits, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(fits), indent=2) + "\n", encoding="utf-8")


def read(path: Path) -> Fits:
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    rows = tuple(
        Fit(**{**row, "peaks": {int(side): peak for side, peak in row["peaks"].items()}}) for row in values["rows"]
    )
    return Fits(**{**values, "rows": rows})
