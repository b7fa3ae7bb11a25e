"""The commands of the tiny model: parses their options and hands over."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.cli import reader, run
from benchmarks.environment import usable_device
from benchmarks.tiny.model import WEIGHTS
from todo.settings import Knob

_STEPS = Knob("steps", int, 5000, "Steps", "", minimum=1, maximum=10**7)
_SEED = Knob("seed", int, 0, "Seed", "", minimum=0, maximum=2**32 - 1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status; a wrong argument exits with 2."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tiny", description="Makes the tiny model.")
    commands = parser.add_subparsers(required=True, metavar="command")

    described = "Trains the model, or continues where training was stopped."
    training = commands.add_parser("train", help=described, description=described, allow_abbrev=False)
    training.set_defaults(command=_train)
    add = training.add_argument
    add("--steps", type=reader(_STEPS), default=5000, help="in all (default: %(default)s)")
    add("--seed", type=reader(_SEED), default=0, help="(default: %(default)s)")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default: CUDA where there is one)")
    add("--output", type=Path, default=WEIGHTS, help="the weights' file; the log goes beside it")
    add("--state", type=Path, default=Path("artifacts/tiny.pt"), help="what training continues from")

    described = "Makes the sheet of images for the model card."
    commands.add_parser("sheet", help=described, description=described).set_defaults(command=_sheet)
    return run(parser, arguments, "`make demo` installs it")


def _train(options: argparse.Namespace) -> int:
    from benchmarks.tiny.train import train

    train(options.steps, options.seed, torch.device(usable_device(options.device)), options.output, options.state)
    return 0


def _sheet(options: argparse.Namespace) -> int:
    from benchmarks.tiny.sheet import write

    print(write())
    return 0
