"""The command `speed`: builds the UNet, measures, prints and writes the results."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks import output
from benchmarks.environment import describe, usable_device
from benchmarks.interrupt import kept
from benchmarks.speed.cases import Task
from benchmarks.speed.models import build_unet
from benchmarks.speed.report import about, table
from benchmarks.speed.results import Result, read, write
from benchmarks.speed.rounds import measure
from todo import SettingsError


def run(task: Task, width: int | None = None) -> Result:
    """Measures, prints the table, and writes JSON and plot. The JSON is written after each method in each round, so
    that an interrupted run keeps its results.

    Args:
        width: channels of the UNet's first level, a multiple of 32; None for the model's own.

    Raises:
        SettingsError: the device is not there, a file cannot be written, or it has results that `task.add` cannot be
            combined with.
    """
    from benchmarks.speed import plot  # now, so that a missing matplotlib is noticed before a run of hours

    usable_device(task.device)
    json_path, plot_path = output.files(task.folder, task.name, "json", "png")
    earlier = _earlier(json_path) if task.add and json_path.exists() else None
    if task.threads:
        torch.set_num_threads(task.threads)
    unet = build_unet(task.model, torch.device(task.device), getattr(torch, task.dtype), width)
    result = Result(describe(unet), task.model, task.batch, task.steps)
    print(f"{about(result)}\nrandom weights · {result.environment.system}", flush=True)
    if earlier:
        result = result.continuing(earlier)
    for size in measure(unet, task):
        result = result.including(size)
        write(result, json_path)
        kept.text = f"{json_path} has {result.complete} of {len(task.cases)} sizes complete, and the present one so far"
    plot.save(result, plot_path)
    print(f"\n{table(result)}\n{json_path}\n{plot_path}")
    return result


def _earlier(figures: Path) -> Result:
    try:
        return read(figures)
    except (ValueError, KeyError, TypeError) as error:
        raise SettingsError("add", f"add: {str(figures)!r} holds no results of this command: {error!r}") from None
