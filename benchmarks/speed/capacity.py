"""The command `memory`: how large an image fits into a given amount of memory, by attention kernel and method."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks import output
from benchmarks.interrupt import kept
from benchmarks.method import DENSE
from benchmarks.speed.memory import Shadow
from benchmarks.speed.methods import GRID_32, GRID_64, LIMIT, METHODS
from benchmarks.speed.models import MATRIX, SDPA, architecture

GIB = 2**30

_KERNELS = {SDPA: "scaled_dot_product_attention", MATRIX: "the matrix of scores written out"}
_METHODS = (DENSE, GRID_64, GRID_32, "tomesd 0.5", LIMIT)
_SIDES = (512, 1024, 1536, 2048)


@dataclass(frozen=True)
class Fit:
    """The memory of one method with one attention kernel.

    Attributes:
        kernel: SDPA or MATRIX.
        peaks: peak memory in bytes of a call for a square image, by its side in pixels.
        largest: side in pixels of the largest square image that fits; 0 if none does.
    """

    kernel: str
    method: str
    peaks: dict[int, int]
    largest: int


@dataclass(frozen=True)
class Fits:
    """The memory of all methods and kernels, in float32. float16 halves every figure.

    Attributes:
        batch: latents per call.
        budget: bytes above weights and inputs that `Fit.largest` fits into.
    """

    model: str
    batch: int
    budget: int
    rows: tuple[Fit, ...]


def find(model: str, batch: int, budget: int) -> Fits:
    """Works out peaks and largest sides from shapes alone, which takes hardly any memory or time."""
    rows = []
    for kernel in _KERNELS:
        # The weights are never written to, so the system does not back them with memory.
        unet = architecture(model, torch.float32, kernel=kernel).to_empty(device="cpu")
        shadow = Shadow(unet, model)
        for name in _METHODS:
            method = METHODS[name]
            peaks = {side: shadow.peak(method, (side, side), batch) for side in _SIDES}
            rows.append(Fit(kernel, name, peaks, shadow.largest_side(method, budget, batch)))
    return Fits(model, batch, budget, tuple(rows))


def run(model: str, batch: int, gib: int, folder: Path, name: str) -> None:
    """Works out how large an image fits into `gib` GiB above weights and inputs, writes JSON and prints a table."""
    (path,) = output.files(folder, name, "json")
    fits = find(model, batch, gib * GIB)
    write(fits, path)
    kept.text = f"{path} is complete"
    print(f"{output.table(*cells(fits))}\n{path}")


def cells(fits: Fits) -> tuple[list[str], list[list[list[str]]]]:
    """The table's head, and a group of rows for each attention kernel."""
    sides = list(fits.rows[0].peaks)
    head = ["attention", "method", *(f"{side}²" for side in sides), f"largest square in {fits.budget / GIB:g} GiB"]
    groups = [[_cells(row, sides) for row in fits.rows if row.kernel == kernel] for kernel in _KERNELS]
    return head, groups


def _cells(row: Fit, sides: list[int]) -> list[str]:
    peaks = [f"{row.peaks[side] / GIB:.2f} GiB" for side in sides]
    return [_KERNELS[row.kernel], row.method, *peaks, f"{row.largest}²"]


def write(fits: Fits, path: Path) -> None:
    output.write_json(asdict(fits), path)


def read(path: Path) -> Fits:
    values: dict[str, Any] = output.read_json(path)
    rows = tuple(
        Fit(**{**row, "peaks": {int(side): peak for side, peak in row["peaks"].items()}}) for row in values["rows"]
    )
    return Fits(**{**values, "rows": rows})
