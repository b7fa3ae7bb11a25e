"""The command line: `python -m todo plan` predicts what settings do to an image of a given size, without a model."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from .families import FAMILIES
from .prediction import LevelPlan, Plan, Work, plan
from .settings import KNOBS, Knob, Settings, SettingsError
from .version import __version__


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line. A wrong argument exits with 2."""
    parser = _parser()
    options = vars(parser.parse_args(arguments))
    given = {name: value for name in KNOBS if (value := options[name]) is not None}
    try:
        prediction = plan(
            options["width"], options["height"], Settings.from_dict(given), options["family"], steps=options["steps"]
        )
    except SettingsError as error:
        parser.error(str(error))
    text = json.dumps(prediction.to_dict(), indent=2) if options["json"] else _text(prediction)
    # A console of Windows may lack a character.
    print(text.encode(sys.stdout.encoding, "replace").decode(sys.stdout.encoding))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m todo", description="Token downsampling for Stable Diffusion.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="command")
    description = "Predicts tokens and work for an image size, dense and with ToDo."
    command = commands.add_parser("plan", help=description, description=description, allow_abbrev=False)
    command.add_argument("--width", default=1024, help="in pixels (default: %(default)s)")
    command.add_argument("--height", default=1024, help="in pixels (default: %(default)s)")
    command.add_argument("--family", default="sd1", help=f"one of {', '.join(FAMILIES)} (default: %(default)s)")
    command.add_argument("--steps", default=0, help="sampling steps (default: as many as usual)")
    command.add_argument("--json", action="store_true", help="print JSON")
    add_settings(command)
    return parser


def add_settings(to: Any, read: Callable[[Knob], Callable[[str], Any]] = lambda knob: str) -> None:
    """Adds an option for every setting to a parser or a group. A switch may be given without a value.

    Args:
        read: returns the function that reads a setting's value.
    """
    for name, knob in KNOBS.items():
        about = f"{knob.help} {knob.allowed.capitalize()}; default {knob.default}.".replace("%", "%%")
        switch: dict[str, Any] = {"nargs": "?", "const": True} if knob.kind is bool else {}
        to.add_argument(
            f"--{name.replace('_', '-')}", type=read(knob), metavar=knob.kind.__name__.upper(), help=about, **switch
        )


def _text(prediction: Plan) -> str:
    lines = [prediction.summary(), "", "level  grid (w×h)   tokens     kept  factor  blocks"]
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
    main()
