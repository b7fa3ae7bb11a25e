"""The commands with `--pipeline`, by their names: from parsed options to a run on a checkpoint.

Wrong options raise a SettingsError before the checkpoint is loaded. Each command imports its code when it runs.
"""

from __future__ import annotations

import argparse

import torch

from benchmarks import output
from benchmarks.environment import DTYPES, usable_device
from benchmarks.options import given_settings, read_prompts, read_size, refuse, sampling
from benchmarks.pipeline import loading
from benchmarks.pipeline.image_model import PipelineImageModel
from benchmarks.pipeline.prompts import PROMPTS
from benchmarks.sampling import PUBLISHED, Request
from todo.settings import KNOBS


def speed(options: argparse.Namespace) -> None:
    """Times whole images."""
    from benchmarks.speed import cases, whole

    refuse(options, ["model", "published", "add"], "goes with random weights only, not with --pipeline")
    methods = cases.chosen_methods(options.compare, given_settings(options))
    sizes = list(dict.fromkeys(map(read_size, options.size or ["1024"])))
    seeds, sampled = tuple(range(options.batch)), sampling(options, PUBLISHED)
    requests = [Request(options.prompt or PROMPTS[0], seeds, size, sampled) for size in sizes]
    (path,) = output.files(options.output, options.name, "json")
    if options.threads:
        torch.set_num_threads(options.threads)
    drawing = _image_model(options)
    rounds = options.rounds or cases.QUICK_ROUNDS[drawing.device.type]
    whole.run(drawing, loading.name(options.pipeline), requests, methods, rounds, path)


def fidelity(options: argparse.Namespace) -> None:
    """Measures how close images stay to the dense ones; with `--paper`, under the paper's conditions."""
    from benchmarks.fidelity import paper, run
    from benchmarks.fidelity.methods import ON_CHECKPOINTS
    from benchmarks.fidelity.report import as_text

    refuse(options, ["workers"], "a checkpoint is measured in one process")
    if options.prompts:
        refuse(options, ["prompt"], "cannot be combined with a file of prompts")
    if options.paper:
        refuse(options, ["size", "steps", "sampler", "guidance", "compare"], "is fixed by --paper")
    prompts = read_prompts(options.prompts) if options.prompts else list(dict.fromkeys(options.prompt or PROMPTS))
    task = run.Task(
        sizes=[paper.SIZE] if options.paper else list(dict.fromkeys(map(read_size, options.size or ["1024"]))),
        prompts=prompts, seeds=options.seeds or 1,
        methods=list(paper.METHODS) if options.paper else run.methods(options.compare, ON_CHECKPOINTS),
        sampling=sampling(options, paper.SAMPLING if options.paper else PUBLISHED),
    )  # fmt: skip
    output.files(options.output, options.name, "json", "png")
    name = loading.name(options.pipeline)
    result = run.run(task, options.output, options.name, image_model=_image_model(options), model=name)
    if options.paper:
        print(f"\nThe paper's Table 1\n\n{as_text(paper.table(result))}")


def demo(options: argparse.Namespace) -> None:
    """Makes one sheet."""
    from benchmarks import demo

    refuse(options, list(KNOBS), "the sheet of a checkpoint has fixed settings: the paper's, the defaults, 32 per side")
    size = read_size(options.size or "1024")
    request = Request(options.prompt, (options.seed,), size, sampling(options, PUBLISHED))
    output.files(options.output, options.name, "png")
    name = loading.name(options.pipeline)
    demo.run(_image_model(options), name, request, demo.ON_CHECKPOINTS, options.output, options.name)


def _image_model(options: argparse.Namespace) -> PipelineImageModel:
    """The checkpoint that the options name, ready to make images.

    Raises:
        SettingsError: it cannot be loaded, or the device is not there.
    """
    device = usable_device(options.device or "auto")
    dtype = getattr(torch, options.dtype or DTYPES[device])
    return PipelineImageModel(loading.load(options.pipeline, options.config, torch.device(device), dtype))
