"""The command line: `python -m todo plan` predicts what settings do to an image of a given size, without a model."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Sequence

from .cli import add_settings, columns, given_settings, run
from .families import FAMILIES
from .prediction import LevelPlan, Plan, Work, plan
from .settings import Settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status; a wrong argument exits with 2."""
    return run(_parser(), arguments, "pip install torch einops")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m todo", description="Token downsampling for Stable Diffusion.")
    commands = parser.add_subparsers(required=True, metavar="command")
    description = "Predicts tokens and work for an image size, dense and with ToDo."
    command = commands.add_parser("plan", help=description, description=description, allow_abbrev=False)
    command.set_defaults(command=_plan)
    command.add_argument("--width", default=1024, help="in pixels (default: %(default)s)")
    command.add_argument("--height", default=1024, help="in pixels (default: %(default)s)")
    command.add_argument("--family", default="sd1", help=f"one of {', '.join(FAMILIES)} (default: %(default)s)")
    command.add_argument("--steps", default=0, help="sampling steps (default: as many as usual)")
    command.add_argument("--json", action="store_true", help="print JSON")
    add_settings(command)
    return parser


def _plan(options: argparse.Namespace) -> int:
    settings = given_settings(options) or Settings()
    prediction = plan(options.width, options.height, settings, options.family, steps=options.steps)
    print(json.dumps(prediction.to_dict(), indent=2, ensure_ascii=False) if options.json else _plan_text(prediction))
    return 0


def _plan_text(prediction: Plan) -> str:
    lines = [*textwrap.wrap(prediction.summary(), columns()), "", "level  grid (w×h)   tokens     kept  factor  blocks"]
    lines += [_level_text(level) for level in prediction.levels]
    lines += ["", "multiply-accumulates, billions     dense      ToDo"]
    lines += [_work_text("self-attention", prediction.attention), _work_text("UNet", prediction.unet)]
    return "\n".join(lines)


def _level_text(level: LevelPlan) -> str:
    height, width = level.grid
    grid = f"{width}×{height}"
    return f"{level.resolution:>5}  {grid:>10} {level.tokens:>8} {level.kept:>8} {level.factor:>7.4g} {level.blocks:>7}"


def _work_text(label: str, work: Work) -> str:
    return f"{label:<30} {work.dense / 1e9:>9.1f} {work.todo / 1e9:>9.1f}"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("Interrupted.")
