"""The command line: `python -m todo plan` and `python -m todo bench`. Parses, and hands over."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from todo.families import FAMILIES
from todo.plan import LATENT_SCALE, LevelPlan, Plan, Work, plan
from todo.settings import KNOBS, Knob, Settings, SettingsError

_SIDE_STEP = LATENT_SCALE * 2 ** (len(FAMILIES["sd1"].multipliers) - 1)
"""Pixels: what the bench's UNet, which halves the latent at every level but the last, needs a side to be a
multiple of."""

_BENCH_SIZE = (768, 768)
_BENCH_SETTINGS = (Settings(), Settings(grid=32, max_downsample=4))
"""What bench measures unless told otherwise: the defaults, and about as far as one would go for speed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status: 2 for a wrong argument, 1 for a failed command."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # a pipe on Windows could not take × and →
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        status: int = options.command(options)
    except SettingsError as error:
        parser.error(str(error))
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m todo", description="Token downsampling for Stable Diffusion: predict it, measure it."
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    described = "Predicts tokens and work for a picture's size, dense against ToDo."
    planning = commands.add_parser("plan", help=described, description=described, allow_abbrev=False)
    planning.set_defaults(command=_plan)
    planning.add_argument("--width", default=1024, help="in pixels (default: %(default)s)")
    planning.add_argument("--height", default=1024, help="in pixels (default: %(default)s)")
    planning.add_argument("--family", default="sd1", help=f"one of {', '.join(FAMILIES)} (default: %(default)s)")
    planning.add_argument("--json", action="store_true", help="print JSON")
    _add_settings(planning)

    described = "Measures a UNet call of SD1.5's architecture with random weights, dense against ToDo."
    benching = commands.add_parser("bench", help=described, description=described, allow_abbrev=False)
    benching.set_defaults(command=_bench)
    benching.add_argument(
        "--size", type=_size, nargs="+", default=[_BENCH_SIZE], metavar="N|WxH",
        help=f"pictures' sizes in pixels, multiples of {_SIDE_STEP} (default: {_BENCH_SIZE[0]})",
    )  # fmt: skip
    benching.add_argument("--rounds", type=_rounds, default=2, metavar="N", help="timed rounds (default: %(default)s)")
    benching.add_argument(
        "--output", type=Path, default=Path("artifacts"), metavar="DIR", help="folder for files (default: %(default)s)"
    )
    _add_settings(benching)
    return parser


def _add_settings(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("settings")
    for name, knob in KNOBS.items():
        described = f"{knob.help} {knob.allowed.capitalize()}; default {knob.default}."
        optional: dict[str, Any] = {"nargs": "?", "const": True} if knob.kind is bool else {}
        group.add_argument(
            f"--{name.replace('_', '-')}", type=_reader(knob), dest=name, metavar=knob.kind.__name__.upper(),
            help=described.replace("%", "%%"), **optional,
        )  # fmt: skip


def _reader(knob: Knob) -> Callable[[str], Any]:
    """The knob's own parsing, with its own message, as argparse wants it."""

    def read(text: str) -> Any:
        try:
            return knob.parse(text)
        except SettingsError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """The settings that were named on the command line."""
    return {name: value for name in KNOBS if (value := getattr(options, name)) is not None}


def _size(text: str) -> tuple[int, int]:
    """Width and height from 'N' or 'WxH'."""
    sides: Sequence[Any] = text.partition("x")
    try:
        expected = plan(sides[0], sides[2] or sides[0], Settings())
    except SettingsError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if expected.width % _SIDE_STEP or expected.height % _SIDE_STEP:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; sides must be multiples of {_SIDE_STEP}")
    return expected.width, expected.height


def _rounds(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"rounds: {text!r} is not allowed; it must be a whole number from 1")
    return int(text)


def _plan(options: argparse.Namespace) -> int:
    prediction = plan(options.width, options.height, Settings.from_dict(_given(options)), options.family)
    if options.json:
        print(json.dumps(prediction.to_dict(), indent=2, ensure_ascii=False))
    else:
        print(_plan_text(prediction))
    return 0


def _plan_text(prediction: Plan) -> str:
    lines = [prediction.summary(), "", "level  grid (w×h)   tokens     kept  factor  blocks"]
    lines += [_level_text(level) for level in prediction.levels]
    lines += ["", "work, 10⁹ multiply-accumulates     dense      ToDo"]
    lines += [_work_text("self-attention", prediction.attention), _work_text("UNet", prediction.unet)]
    return "\n".join(lines)


def _level_text(level: LevelPlan) -> str:
    height, width = level.grid
    grid = f"{width}×{height}"
    return f"{level.resolution:>5}  {grid:>10} {level.tokens:>8} {level.kept:>8} {level.factor:>7.4g} {level.blocks:>7}"


def _work_text(label: str, work: Work) -> str:
    return f"{label:<30} {work.dense / 1e9:>9.1f} {work.todo / 1e9:>9.1f}"


def _bench(options: argparse.Namespace) -> int:
    given = _given(options)
    settings = [Settings.from_dict(given)] if given else _BENCH_SETTINGS
    try:
        from todo.bench import report
    except ModuleNotFoundError as error:
        print(f"todo bench needs the package {error.name!r}; `make demo` installs it", file=sys.stderr)
        return 1
    result = report.run(list(dict.fromkeys(options.size)), settings, options.rounds, options.output)
    return 0 if result.identical else 1


if __name__ == "__main__":
    sys.exit(main())
