"""The patch's own time: what its Python costs a self-attention block, dense, idle and acting. The command `overhead`.

Measured on the layouts of SD1.5 and SDXL with very few channels and a tiny latent, so that a call is little else than
Python. On a GPU that is fast or has little to do, Python is what a call waits for.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks import output
from benchmarks.environment import Environment, describe, now
from benchmarks.interrupt import kept
from benchmarks.speed.models import Inputs, build_unet, call, inputs
from benchmarks.speed.report import MODELS
from todo import Patch, Settings, patched
from todo.timing import rotated
from todo.unet import find_self_attention

STATES = ("dense", "idle", "acting")

_WIDTH = 32
"""Channels of the first level."""

_SIDE = 64
"""Pixels per side: at the finest level of SD1 a grid of 8 by 8 tokens."""

_CALLS = 4
"""Timed calls of each state in a round, of which the fastest counts."""

_IDLE = Settings(mode="manual", factor=2, deep_factor=2, max_downsample=8, start=0.5)
_ACTING = Settings(mode="manual", factor=2, deep_factor=2, max_downsample=8)


@dataclass(frozen=True)
class Overhead:
    """Microseconds of a call per self-attention block that ToDo touches, by state and round.

    Attributes:
        model: whose layout.
        blocks: how many blocks ToDo touches.
    """

    model: str
    blocks: int
    microseconds: dict[str, tuple[float, ...]]

    def extra(self, state: str) -> tuple[float, float, float]:
        """What a state costs above dense, in µs a block: the median over the rounds, and the quartiles."""
        pairs = zip(self.microseconds[state], self.microseconds["dense"], strict=True)
        costs = [above - dense for above, dense in pairs]
        low, median, high = statistics.quantiles(costs, n=4, method="inclusive") if len(costs) > 1 else costs * 3
        return median, low, high


@dataclass(frozen=True)
class Overheads:
    """A run of the command."""

    environment: Environment
    rows: tuple[Overhead, ...]


def run(rounds: int, folder: Path, name: str) -> None:
    """Measures both layouts, prints the table and writes the figures."""
    (file,) = output.files(folder, name, "json")
    torch.set_num_threads(1)
    measured = []
    for model in ("sd1", "sdxl"):
        unet = build_unet(model, torch.device("cpu"), torch.float32, _WIDTH)
        measured.append(measure(unet, model, rounds))
        output.write_json(asdict(Overheads(describe(unet), tuple(measured))), file)
        kept.text = f"{file} has {len(measured)} of 2 layouts"
    head, rows = cells(read(file))
    print(f"{output.table(head, [rows])}\n{file}")


def measure(unet: nn.Module, model: str, rounds: int) -> Overhead:
    """Times the states in turn. Of a state's calls in a round the fastest counts."""
    given = inputs(unet, model, (_SIDE, _SIDE))
    given = replace(given, context=given.context[:, :1])  # the text's projections would be most of the call
    blocks = len(find_self_attention(unet))
    put_on: dict[str, Callable[[], AbstractContextManager[Patch | None]]] = {
        "dense": nullcontext,
        "idle": partial(patched, unet, _IDLE),
        "acting": partial(patched, unet, _ACTING),
    }
    microseconds: dict[str, list[float]] = {state: [] for state in STATES}
    for number in range(rounds):
        for state in rotated(STATES, number):
            with put_on[state]() as patch:
                microseconds[state].append(1e6 * _seconds(unet, given, patch) / blocks)
    return Overhead(model, blocks, {state: tuple(each) for state, each in microseconds.items()})


def _seconds(unet: nn.Module, given: Inputs, patch: Patch | None) -> float:
    """The fastest of several calls, which other programs disturb least. The first is not timed: it arms what acts."""
    clock = now(given.latent.device)
    fastest = math.inf
    for number in range(1 + _CALLS):
        if patch:
            patch.at(0, 10)
        start = clock()
        call(unet, given)
        if number:
            fastest = min(fastest, clock() - start)
    return fastest


def cells(overheads: Overheads) -> tuple[list[str], list[list[str]]]:
    """The table's head and rows."""
    head = ["layout", "blocks", "a dense call, ms", "idle, µs a block", "acting, µs a block"]
    return head, [_cells(row) for row in overheads.rows]


def _cells(row: Overhead) -> list[str]:
    dense = statistics.median(row.microseconds["dense"]) * row.blocks / 1000
    extra = ["{:.1f} ({:.1f}–{:.1f})".format(*row.extra(state)) for state in STATES[1:]]
    return [MODELS[row.model], str(row.blocks), f"{dense:.1f}", *extra]


def read(path: Path) -> Overheads:
    """The figures that the command has written."""
    values: dict[str, Any] = output.read_json(path)
    rows = tuple(
        Overhead(**{**row, "microseconds": {state: tuple(each) for state, each in row["microseconds"].items()}})
        for row in values["rows"]
    )
    return Overheads(Environment(**values["environment"]), rows)
