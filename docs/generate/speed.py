"""Tables and sentences of the published runs of speed, and the work by arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from math import nan

from benchmarks.method import DENSE, NO_EFFECT, StaleError
from benchmarks.output import bullets, markdown
from benchmarks.speed import overhead
from benchmarks.speed.methods import DEFAULT, HYPERTILE, LIMIT, METHODS
from benchmarks.speed.report import MODELS, about, spread
from benchmarks.speed.results import Result, SizeResult, Spread, keeps_all, present, read
from docs.generate import RESULTS
from todo import Settings, plan

GPU = {"sd1": "sd1-cuda", "sdxl": "sdxl-cuda"}
CPU = {"sd1": "sd1-cpu", "sdxl": "sdxl-cpu"}
"""The files of the published runs, by model."""

_SECOND = "{}-settled"
"""The file of a GPU's second run, on another machine, in which an untimed call came before each timed one."""

_NONE = "–"
"""A cell that was not measured."""

_GAIN = 1.1
"""Where the limit's speed-up is lower, the card waits for Python."""

_MERGING = "tomesd 0.5"

_WORK_SIDES = (768, 1024, 1536, 2048, 3072)
_WORK = {
    **{f"{grid} per side": Settings(grid=grid) for grid in (64, 48, 32)},
    "64 per side, finest level only (max downsample 1)": Settings(grid=64, max_downsample=1),
}


@cache
def published(name: str) -> Result:
    """A published run, by the names of today's methods.

    Raises:
        StaleError: the present code would not reproduce it.
    """
    path = RESULTS / f"{name}.json"
    try:
        return present(read(path))
    except StaleError as stale:
        raise StaleError(f"{path.name}: {stale}. Measure it anew, or delete it from the file") from None


def speed_table(name: str) -> Callable[[], str]:
    """The function that makes the table of a run: dense time, and speed-ups by method and size."""

    def make() -> str:
        result = published(name)
        counts = ["rounds", *(str(size.rounds) for size in result.sizes)]
        dense = [DENSE, *map(_dense_cell, result.sizes)]
        rows = [[method, *(_cell(result, size, method) for size in result.sizes)] for method in METHODS]
        if name in GPU.values():
            second = {size.label: size for size in published(_SECOND.format(name)).sizes}
            sizes = [second.get(size.label) for size in result.sizes]
            for method in (DEFAULT, HYPERTILE, LIMIT):
                cells = [_cell(result, size, method) if size else _NONE for size in sizes]
                rows.append([f"second run: {method}", *cells])
        shown = [row for row in rows if row[0] != DENSE and set(row[1:]) != {_NONE}]
        table = markdown(["", *(size.label for size in result.sizes)], [counts, dense, *shown])
        return f"{about(result)}\n\n{table}"

    return make


def _dense_cell(size: SizeResult) -> str:
    row = size.row(DENSE)
    seconds = row.spread.median if row and row.spread else 0.0
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"


def _cell(result: Result, size: SizeResult, method: str) -> str:
    return NO_EFFECT if keeps_all(size, result, method) else spread(size.speedup(method)) or _NONE


def default_table() -> str:
    """Median speed-ups of the default for square images."""
    measured = {
        model: {size.label: cell for size in published(name).sizes if (cell := _median(published(name), size))}
        for model, name in GPU.items()
    }
    labels = [size.label for size in published(GPU["sd1"]).sizes if size.width == size.height]
    shown = [label for label in labels if any(label in cells for cells in measured.values())]
    rows = [[MODELS[model], *(cells.get(label, _NONE) for label in shown)] for model, cells in measured.items()]
    environment = published(GPU["sd1"]).environment
    return f"{markdown(['', *shown], rows)}\n{environment.machine}, {environment.dtype}, PyTorch's attention.\n"


def _median(result: Result, size: SizeResult) -> str:
    if keeps_all(size, result, DEFAULT):
        return NO_EFFECT
    speedup = size.speedup(DEFAULT)
    return f"×{speedup.median:.2f}" if speedup else ""


def gpu_sentences() -> str:
    """What the GPU's figures say, worded for the worse quartile where there is one."""
    waits = [each for each in _measured() if _spread(each[1], LIMIT).median < _GAIN]
    acts = [each for each in _measured(DEFAULT) if not keeps_all(each[1], published(GPU[each[0]]), DEFAULT)]
    model, size = min(acts, key=lambda each: _spread(each[1], DEFAULT).median)
    pays = [each for each in acts if each not in waits]
    shares = [_spread(size, DEFAULT, LIMIT).low for _, size in pays]
    faster = [(model, size) for model, size in pays if _spread(size, DEFAULT, HYPERTILE).low > 1]
    slower = [(model, size) for model, size in acts if _spread(size, DEFAULT, HYPERTILE).median < 1]
    least = _spread(size, DEFAULT)
    return bullets(
        f"Where even the limit gains less than {_percent(_GAIN - 1)}, this card waits for Python, and a method only "
        f"adds to that: {_sizes(waits)}. The default goes down to ×{least.median:.2f} (lower quartile "
        f"×{least.low:.2f}), on {MODELS[model]} at {size.label}. A slower card waits less, the CPU below not at all.",
        f"Where the limit gains more, the default reaches {_percent(min(shares))} to {_percent(max(shares))} of it, by "
        f"the lower quartiles of the rounds.",
        f"The default is faster than HyperTile, by the lower quartile, on {_sizes(faster)}. By the median it is slower "
        f"on {_sizes(slower)}.",
    )


def memory_sentence() -> str:
    """How much memory the default needs beside dense, and token merging."""
    more = max(_peak(size, DEFAULT) / _peak(size, DENSE) - 1 for _, size in _measured(DEFAULT))
    _, size = [each for each in _measured(_MERGING) if each[0] == "sd1"][-1]
    dense, merging = (f"{_peak(size, method) / 2**30:.1f} GiB" for method in (DENSE, _MERGING))
    return bullets(
        "On the GPU above, the peak of a call with the default, above weights and inputs, is at most "
        f"{math.ceil(1000 * more) / 10:.1f} % higher than dense at every size that was measured.",
        f"Token merging compares tokens with each other: {merging} instead of {dense} for SD1.5 at {size.label}.",
    )


def _measured(method: str = LIMIT) -> list[tuple[str, SizeResult]]:
    """The sizes at which a method was measured on the GPU, with their models."""
    return [(model, size) for model, name in GPU.items() for size in published(name).sizes if size.speedup(method)]


def _spread(size: SizeResult, method: str, over: str = DENSE) -> Spread:
    return size.speedup(method, over) or Spread(nan, nan, nan)


def _peak(size: SizeResult, method: str) -> float:
    row = size.row(method)
    return row.peak_bytes if row and row.peak_bytes else nan


def _sizes(chosen: Sequence[tuple[str, SizeResult]]) -> str:
    """Models and sizes as text: 'SD1.5 at 512² and 768², SDXL at 1024²'."""
    labels = {model: [size.label for each, size in chosen if each == model] for model in GPU}
    return ", ".join(f"{MODELS[model]} at {_listed(sizes)}" for model, sizes in labels.items() if sizes)


def _listed(words: Sequence[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def overhead_table() -> str:
    """What the patch's own Python costs."""
    return overhead.as_markdown(RESULTS / "overhead.json")


def work_table() -> str:
    """How many times less work a UNet call takes for square images, by model and settings."""
    rows = [
        [MODELS[family], label, *(f"×{plan(side, side, settings, family).unet.times_less:.2f}" for side in _WORK_SIDES)]
        for family in GPU
        for label, settings in _WORK.items()
    ]
    return markdown(["", "", *(f"{side}²" for side in _WORK_SIDES)], rows)
