"""`python -m benchmarks.tiny train`: trains the model, or continues where training was stopped."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks import interrupt


def _main() -> int:
    # Not at the top: an interrupt is answered while torch is being imported, too.
    from benchmarks.cli import run
    from benchmarks.options import add_number
    from benchmarks.tiny.model import WEIGHTS

    parser = argparse.ArgumentParser(prog="python -m benchmarks.tiny", description="Makes the tiny model.")
    commands = parser.add_subparsers(required=True, metavar="command")
    described = "Trains the model, or continues where training was stopped."
    training = commands.add_parser("train", help=described, description=described, allow_abbrev=False)
    training.set_defaults(command=_train)
    add = training.add_argument
    add_number(add, "steps", 10**7, "in all (default: %(default)s)", default=5000)
    add("--seed", type=int, default=0, help="(default: %(default)s)")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default: CUDA where there is one)")
    add("--output", type=Path, default=WEIGHTS, help="the weights' file; the log goes beside it")
    add("--state", type=Path, default=Path("artifacts/tiny.pt"), help="what training continues from")
    return run(parser, None, "`make demo` installs it")


def _train(options: argparse.Namespace) -> int:
    import torch

    from benchmarks.environment import usable_device
    from benchmarks.tiny.train import train

    train(options.steps, options.seed, torch.device(usable_device(options.device)), options.output, options.state)
    return 0


if __name__ == "__main__":
    sys.exit(interrupt.run(_main))
