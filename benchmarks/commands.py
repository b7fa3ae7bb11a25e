"""The command line: parses the options of each command and calls its code.

Each command imports its code when it runs, so that it works without the packages that only other commands need.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.sampling import SAMPLERS
from benchmarks.workers import WorkerError
from todo import Settings
from todo.cli import add_settings, given_settings, reader, run
from todo.families import FAMILIES
from todo.settings import Knob


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status: 1 for a failed command. A wrong argument exits with 2."""
    return run(_parser(), arguments, "`make demo` installs it", (WorkerError,))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measures token downsampling: speed, memory and fidelity."
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(name: str, action: Callable[[argparse.Namespace], int], description: str) -> argparse.ArgumentParser:
        subparser = commands.add_parser(name, help=description, description=description, allow_abbrev=False)
        subparser.set_defaults(command=action)
        return subparser

    _add_speed(command("speed", _speed, "Times a UNet with random weights: dense, with ToDo, and with alternatives."))
    _add_memory(command("memory", _memory, "Works out how large an image fits into a given amount of memory."))
    _add_overhead(command("overhead", _overhead, "Times the patch's own Python: a self-attention block dense, idle and "
                          "acting."))  # fmt: skip
    _add_fidelity(command("fidelity", _fidelity, "Measures how close the tiny model's images stay to the dense ones."))
    _add_study(command("study", _study, "Measures where the moving phase helps: numbers of sampling steps, samplers, "
                       "factors, sharper attention, other patterns. Takes half an hour on one core."))  # fmt: skip
    _add_demo(command("demo", _demo, "Makes one image with the tiny model, dense and with ToDo, from the same noise."))
    return parser


def _add_speed(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("measurement").add_argument
    _add_model(add)
    add("--size", nargs="+", metavar="N|WxH", help="image sizes in pixels (default: 768)")
    add("--compare", nargs="+", metavar="METHOD",
        help="'all', or names of methods as in the table; dense is always measured (default: ToDo with the given "
        "settings; without settings, ToDo with its defaults and with a grid of 32)")  # fmt: skip
    _add_number(add, "rounds", 10_000, "timed rounds (default: 2 on the CPU, 10 on CUDA)")
    _add_batch(add)
    _add_number(add, "steps", 1000, "time whole sampling loops of N steps, not single calls", default=0)
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default: CUDA if available)")
    add("--dtype", choices=("float32", "float16", "bfloat16"), help="(default: float32 on the CPU, float16 on CUDA)")
    _add_number(add, "threads", 1024, "torch's threads on the CPU; with 1, processor time is measured, which other "
                "programs disturb least")  # fmt: skip
    add("--published", action="store_true", help="measure the sizes, methods and rounds of the published run; takes "
        "hours on a CPU")  # fmt: skip
    add("--add", action="store_true", help="keep the other sizes in an existing file, if they were measured with the "
        "same model and versions on the same machine")  # fmt: skip
    _add_output(add, "speed")
    add_settings(parser)


def _add_memory(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    _add_model(add)
    _add_batch(add)
    _add_number(add, "gib", 10_000, "memory above the weights, in GiB (default: %(default)s)", default=8)
    _add_output(add, "memory")


def _add_overhead(parser: argparse.ArgumentParser) -> None:
    _add_number(parser.add_argument, "rounds", 1000, "timed rounds (default: %(default)s)", default=40)
    _add_output(parser.add_argument, "overhead")


def _add_fidelity(parser: argparse.ArgumentParser) -> None:
    add = _add_sampling(parser)
    add("--size", nargs="+", metavar="N|WxH", default=["128", "192", "256"],
        help="in pixels (default: 1, 1.5 and 2 times the size that the model was trained at)")  # fmt: skip
    add("--prompt", nargs="+", metavar="TEXT", help="(default: all prompts that the model knows)")
    _add_number(add, "seeds", 10_000, "images per prompt (default: %(default)s)", default=16)
    add("--compare", nargs="+", metavar="METHOD",
        help="names of methods as in the table (default: those of docs/fidelity.md)")  # fmt: skip
    _add_knob(add, Knob("sharpness", float, 1.0, "Sharpness", "multiplies the queries, which concentrates attention "
              "on fewer keys", minimum=0, maximum=1000))  # fmt: skip
    _add_workers(add)
    _add_output(add, "fidelity")


def _add_study(parser: argparse.ArgumentParser) -> None:
    _add_workers(parser.add_argument)
    _add_output(parser.add_argument, "study")


def _add_demo(parser: argparse.ArgumentParser) -> None:
    add = _add_sampling(parser)
    add("--prompt", default="a cup of coffee", help="(default: %(default)s)")
    add("--size", default="256", metavar="N|WxH", help="in pixels (default: %(default)s)")
    _add_knob(add, Knob("seed", int, 0, "Seed", "of the noise", minimum=0, maximum=2**32 - 1))
    _add_output(add, "demo")
    add_settings(parser, "settings (default: keep 32 keys/values per side, the grid that the model was trained at)")


def _add_sampling(parser: argparse.ArgumentParser) -> Callable[..., Any]:
    add = parser.add_argument_group("sampling").add_argument
    _add_number(add, "steps", 1000, "(default: %(default)s)", default=20)
    add("--sampler", choices=SAMPLERS, default="euler", help="(default: %(default)s)")
    _add_knob(add, Knob("guidance", float, 1.0, "Guidance", "CFG scale; 1 is none", minimum=0, maximum=100))
    return add


def _add_model(add: Callable[..., Any]) -> None:
    add("--model", choices=sorted(FAMILIES), default="sd1", help="architecture (default: %(default)s)")


def _add_batch(add: Callable[..., Any]) -> None:
    _add_number(add, "batch", 1024, "latents per call; 2 is one image with guidance (default: %(default)s)", default=1)


def _add_workers(add: Callable[..., Any]) -> None:
    _add_number(add, "workers", 256, "processes of one thread each (default: %(default)s)", default=1)


def _add_output(add: Callable[..., Any], name: str) -> None:
    add("--output", type=Path, default=Path("artifacts"), metavar="DIR", help="output folder (default: %(default)s)")
    add("--name", default=name, help="name of the files without extension (default: %(default)s)")


def _add_number(add: Callable[..., Any], name: str, maximum: int, help: str, default: int | None = None) -> None:
    """Adds an option for a whole number from 1 to `maximum`."""
    knob = Knob(name, int, None, name.title(), help, minimum=1, maximum=maximum)
    add(f"--{name}", type=reader(knob), metavar="N", default=default, help=help)


def _add_knob(add: Callable[..., Any], knob: Knob) -> None:
    """Adds an option whose help gives the allowed range and the default."""
    add(f"--{knob.name}", type=reader(knob), metavar=knob.kind.__name__.upper(), default=knob.default,
        help=f"{knob.help}, {knob.allowed} (default: %(default)s)")  # fmt: skip


def _speed(options: argparse.Namespace) -> int:
    from benchmarks.speed import cases
    from benchmarks.speed import run as speed

    task = cases.task(
        model=options.model, device=options.device, dtype=options.dtype, sizes=options.size,
        compare=options.compare, settings=given_settings(options), rounds=options.rounds,
        published=options.published, batch=options.batch, steps=options.steps, threads=options.threads,
        folder=options.output, name=options.name, add=options.add,
    )  # fmt: skip
    return 1 if speed.run(task).identical is False else 0


def _memory(options: argparse.Namespace) -> int:
    from benchmarks.speed import capacity

    capacity.run(options.model, options.batch, options.gib, options.output, options.name)
    return 0


def _overhead(options: argparse.Namespace) -> int:
    from benchmarks.speed import overhead

    overhead.run(options.rounds, options.output, options.name)
    return 0


def _fidelity(options: argparse.Namespace) -> int:
    from benchmarks.fidelity import run as fidelity
    from benchmarks.sampling import Sampling
    from benchmarks.tiny.model import read_size
    from benchmarks.tiny.photographs import PROMPTS

    task = fidelity.Task(
        sizes=list(dict.fromkeys(map(read_size, options.size))),
        prompts=list(dict.fromkeys(options.prompt or PROMPTS)), seeds=options.seeds,
        methods=fidelity.methods(options.compare),
        sampling=Sampling(options.steps, options.sampler, options.guidance, options.sharpness),
    )  # fmt: skip
    fidelity.run(task, options.workers, options.output, options.name)
    return 0


def _study(options: argparse.Namespace) -> int:
    from benchmarks.fidelity import study

    study.run(options.workers, options.output, options.name)
    return 0


def _demo(options: argparse.Namespace) -> int:
    from benchmarks import demo
    from benchmarks.sampling import Request, Sampling
    from benchmarks.tiny.model import TRAINED_GRID, read_size

    sampling = Sampling(options.steps, options.sampler, options.guidance)
    request = Request(options.prompt, (options.seed,), read_size(options.size), sampling)
    demo.run(request, given_settings(options) or Settings(grid=TRAINED_GRID), options.output, options.name)
    return 0
