"""A whole run of the bench command: builds the UNet, measures, shows and writes what came out."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch

from todo.bench import fits, plot
from todo.bench.cases import Task
from todo.bench.environment import describe
from todo.bench.models import build_unet
from todo.bench.report import header, table
from todo.bench.results import Result, read, write
from todo.bench.speed import measure


def run(task: Task, width: int | None = None) -> Result:
    """Measures, prints the table, and writes the figures and their picture. The figures are written after every size,
    so that whatever ends a run leaves what it had; a keyboard interrupt still gets the table and the picture.

    Args:
        width: channels of the UNet's first level; the model's own unless told otherwise.
    """
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
    figures, picture = (task.folder / f"{task.name}.{ending}" for ending in ("json", "png"))
    task.folder.mkdir(parents=True, exist_ok=True)
    if task.add and figures.exists():
        result = result.continuing(read(figures))
    with suppress(KeyboardInterrupt):
        for size in measure(unet, task):
            result = result.including(size)
            write(result, figures)
        result = replace(result, interrupted=False)
    show(result, figures, picture)
    return result


def run_fits(model: str, batch: int, gib: int, folder: Path, name: str) -> None:
    """Works out, prints and writes how large a picture fits into `gib` GiB above weights and inputs."""
    found = fits.find(model, batch, gib * fits.GIB)
    file = folder / f"{name}.json"
    fits.write(found, file)
    print(f"{fits.table(found)}\n{file}")


def show(result: Result, figures: Path, picture: Path) -> None:
    """Prints the table, and writes both files."""
    if not result.sizes:
        print("\nInterrupted before anything was measured.")
        return
    write(result, figures)
    plot.save(result, picture)
    print(f"\n{table(result)}\n{figures}\n{picture}")
