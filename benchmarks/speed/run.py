"""The command `speed`: builds the UNet, measures, shows and writes the results."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from benchmarks import output
from benchmarks.environment import describe
from benchmarks.interrupt import kept
from benchmarks.speed.cases import Task
from benchmarks.speed.models import build_unet
from benchmarks.speed.report import header, table
from benchmarks.speed.results import Result, read, write
from benchmarks.speed.rounds import measure
from todo import SettingsError


def run(task: Task, width: int | None = None) -> Result:
    """Measures, prints the table, and writes the figures and their plot. The figures are written after each method's
    turn, so that a run which is ended early leaves what it had.

    Args:
        width: channels of the UNet's first level; by default the model's own.
    """
    from benchmarks.speed import plot  # before the run, which takes hours, not after it: it may be missing

    figures, drawing = output.files(task.folder, task.name, "json", "png")
    earlier = _earlier(figures) if task.add and figures.exists() else None
    if task.threads:
        torch.set_num_threads(task.threads)
    unet = build_unet(task.model, torch.device(task.device), getattr(torch, task.dtype), width)
    result = Result(
        environment=describe(unet),
        model=task.model,
        parameters=sum(each.numel() for each in unet.parameters()),
        batch=task.batch,
        steps=task.steps,
        methods={method.name: method.about for case in task.cases for method in case.methods},
        interrupted=True,
    )
    print(header(result), flush=True)
    if earlier:
        result = result.continuing(earlier)
    for size in measure(unet, task):
        result = result.including(size)
        write(result, figures)
        kept.text = (
            f"{figures} has {result.complete} of {len(task.cases)} sizes complete, and a part of the present one"
        )
    result = replace(result, interrupted=False)
    write(result, figures)
    plot.save(result, drawing)
    print(f"\n{table(result)}\n{figures}\n{drawing}")
    return result


def _earlier(figures: Path) -> Result:
    try:
        return read(figures)
    except (ValueError, KeyError, TypeError) as error:
        raise SettingsError("add", f"add: {str(figures)!r} holds no results of this command: {error!r}") from None
