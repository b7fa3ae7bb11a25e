"""The command line: `python -m todo plan`, `bench`, `demo`, `fidelity` and `study`. Parses, and hands over."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from todo.bench.painter.sampler import SAMPLERS
from todo.families import FAMILIES
from todo.plan import LevelPlan, Plan, Work, plan
from todo.settings import KNOBS, Knob, Settings, SettingsError


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

    described = "Measures a UNet of random weights, dense, with ToDo, and with what would be picked instead."
    benching = commands.add_parser("bench", help=described, description=described, allow_abbrev=False)
    benching.set_defaults(command=_bench)
    _add_measurement(benching)
    _add_settings(benching)

    described = "Draws a picture with the embedded model, dense and with ToDo, from the same noise: times and likeness."
    showing = commands.add_parser("demo", help=described, description=described, allow_abbrev=False)
    showing.set_defaults(command=_demo)
    _add_drawing(showing)
    showing.add_argument("--prompt", default="a cup of coffee", help="(default: %(default)s)")
    showing.add_argument("--size", default="256", metavar="N|WxH", help="in pixels (default: %(default)s)")
    showing.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    _add_settings(showing, "settings (default: at most the grid that the model was trained on, 32 per side)")

    described = "Measures what each method does to the pictures of the embedded model, against dense ones."
    comparing = commands.add_parser("fidelity", help=described, description=described, allow_abbrev=False)
    comparing.set_defaults(command=_fidelity)
    _add_drawing(comparing)
    add = comparing.add_argument
    add("--size", nargs="+", metavar="N|WxH", default=["128", "192", "256"],
        help="in pixels (default: the size it was trained at, one and a half and two times that)")  # fmt: skip
    add("--prompt", nargs="+", metavar="TEXT", help="(default: all that it knows)")
    add("--seeds", type=_whole, default=16, metavar="N", help="pictures of each prompt (default: %(default)s)")
    add(
        "--compare",
        nargs="+",
        metavar="METHOD",
        help="by their names in the table (default: those of docs/fidelity.md)",
    )
    add("--sharpness", type=float, default=1.0, metavar="TIMES",
        help="multiplies the queries, so that fewer keys count (default: %(default)s)")  # fmt: skip
    add("--workers", type=_whole, default=1, metavar="N", help=_WORKERS_HELP)
    add("--name", default="fidelity", help="the files' name (default: %(default)s)")

    described = "Measures where the moving phase pays: steps, samplers, factors, sharper attention, other ways to move."
    studying = commands.add_parser("study", help=described, description=f"{described} About half an hour on one core.",
                                   allow_abbrev=False)  # fmt: skip
    studying.set_defaults(command=_study)
    add = studying.add_argument
    add("--workers", type=_whole, default=1, metavar="N", help=_WORKERS_HELP)
    _add_output(add)
    add("--name", default="study", help="the file's name (default: %(default)s)")
    return parser


_WORKERS_HELP = "processes of one thread each (default: %(default)s)"


def _add_output(add: Callable[..., Any]) -> None:
    add("--output", type=Path, default=Path("artifacts"), metavar="DIR", help="folder for files (default: %(default)s)")


def _add_drawing(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("drawing").add_argument
    add("--steps", type=_whole, default=20, metavar="N", help="(default: %(default)s)")
    add("--sampler", choices=SAMPLERS, default="euler", help="(default: %(default)s)")
    add("--guidance", type=float, default=1.0, metavar="SCALE", help="CFG scale; 1 is none (default: %(default)s)")
    _add_output(add)


def _add_measurement(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("measurement").add_argument
    add("--model", choices=sorted(FAMILIES), default="sd1", help="whose architecture (default: %(default)s)")
    add("--size", nargs="+", metavar="N|WxH", help="pictures' sizes in pixels (default: 768)")
    add("--compare", nargs="+", metavar="METHOD",
        help="'all', or methods by their names in the table, dense in any case (default: ToDo with the settings given; "
        "without any, with the defaults and with a grid of 32)")  # fmt: skip
    add("--rounds", type=_whole, metavar="N", help="timed rounds (default: 2 on the CPU, 10 on CUDA)")
    add("--batch", type=_whole, default=1, metavar="N",
        help="pictures per call; 2 is one picture with its negative prompt (default: %(default)s)")  # fmt: skip
    add("--steps", type=_whole, default=0, metavar="N", help="time whole sampling loops of N steps, not single calls")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default: CUDA where there is one)")
    add("--dtype", choices=("float32", "float16", "bfloat16"), help="(default: float32 on the CPU, float16 on CUDA)")
    add("--threads", type=_whole, metavar="N",
        help="torch's threads on the CPU; with 1, processor time is taken, which a busy machine disturbs least",
    )  # fmt: skip
    add("--published", action="store_true",
        help="sizes, methods and rounds of the published results; hours on a CPU")  # fmt: skip
    add("--memory", type=_whole, metavar="GIB",
        help="instead of times: the largest square picture that fits into so much memory above weights")  # fmt: skip
    _add_output(add)
    add(
        "--add",
        action="store_true",
        help="keep the file's other sizes, where the same was measured on the same machine",
    )
    add("--name", default="bench", help="the files' name (default: %(default)s)")


def _add_settings(parser: argparse.ArgumentParser, title: str = "settings") -> None:
    group = parser.add_argument_group(title)
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


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; it must be a whole number from 1")
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


def _needs_packages(command: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """A command that says which package it lacks, and how to get it."""

    def run(options: argparse.Namespace) -> int:
        try:
            return command(options)
        except ModuleNotFoundError as error:
            name = command.__name__.strip("_")
            print(f"todo {name} needs the package {error.name!r}; `make demo` installs it", file=sys.stderr)
            return 1

    return run


@_needs_packages
def _bench(options: argparse.Namespace) -> int:
    from todo.bench import cases, run

    if options.memory:
        run.run_fits(options.model, options.batch, options.memory, options.output, options.name)
        return 0
    given = _given(options)
    task = cases.task(
        model=options.model, device=options.device, dtype=options.dtype, sizes=options.size,
        compare=options.compare, settings=Settings.from_dict(given) if given else None, rounds=options.rounds,
        published=options.published, batch=options.batch, steps=options.steps, threads=options.threads,
        folder=options.output, name=options.name, add=options.add,
    )  # fmt: skip
    result = run.run(task)
    return 1 if result.identical is False or result.interrupted else 0


@_needs_packages
def _demo(options: argparse.Namespace) -> int:
    from todo.bench import demo
    from todo.bench.painter.painter import TRAINED_GRID, read_size
    from todo.bench.painter.sampler import Order, Sampling

    sampling = Sampling(options.steps, options.sampler, options.guidance)
    order = Order(options.prompt, (options.seed,), read_size(options.size), sampling)
    settings = Settings.from_dict(_given(options) or {"grid": TRAINED_GRID})
    demo.run(order, settings, options.output)
    return 0


@_needs_packages
def _fidelity(options: argparse.Namespace) -> int:
    from todo.bench.fidelity import run
    from todo.bench.painter.painter import read_size
    from todo.bench.painter.photographs import PROMPTS
    from todo.bench.painter.sampler import Sampling

    task = run.Task(
        sizes=list(map(read_size, options.size)), prompts=options.prompt or PROMPTS, seeds=options.seeds,
        methods=run.methods(options.compare),
        sampling=Sampling(options.steps, options.sampler, options.guidance, options.sharpness),
    )  # fmt: skip
    run.run(task, options.workers, options.output, options.name)
    return 0


@_needs_packages
def _study(options: argparse.Namespace) -> int:
    from todo.bench.fidelity import study

    return 0 if study.run(options.workers, options.output, options.name) else 1


if __name__ == "__main__":
    sys.exit(main())
