"""The command line: parses the options of each command and calls its code.

Each command imports its code when it runs, so that it works without the packages that only other commands need.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from benchmarks import output
from benchmarks.options import (
    add_device,
    add_knob,
    add_number,
    add_output,
    add_pipeline,
    add_sampler,
    add_sampling,
    add_settings,
    given_settings,
    refuse_without_pipeline,
    sampling,
)
from benchmarks.sampling import PUBLISHED, Request
from todo import Settings, SettingsError
from todo.families import FAMILIES
from todo.settings import KNOBS, Knob

_FAMILY = "sd1"
"""The architecture that is measured unless another is named."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status: 1 for a failed command. A wrong argument exits with 2.

    What the user can mend is reported in one line instead of a traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a console of Windows may lack a character
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measures token downsampling: speed and fidelity."
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    for name, (add, _, about) in _COMMANDS.items():
        add(commands.add_parser(name, help=about, description=about, allow_abbrev=False))
        commands.choices[name].set_defaults(command=name)
    try:
        options = parser.parse_args(arguments)
        if getattr(options, "pipeline", None):
            from benchmarks.pipeline import commands as on_checkpoints

            getattr(on_checkpoints, options.command)(options)
        else:
            _COMMANDS[options.command][1](options)
        if sys.stdout:  # None where the caller has closed it
            sys.stdout.flush()
        return 0
    except SettingsError as error:
        parser.error(str(error))
    except (BrokenProcessPool, OSError) as error:
        if isinstance(error, BrokenPipeError):
            _drop_output()
        else:
            print(f"{parser.prog}: {error}", file=sys.stderr)
    return 1


def _drop_output() -> None:
    """Python flushes once more at exit, which would fail again and print a traceback."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _add_speed(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("measurement").add_argument
    add("--model", choices=sorted(FAMILIES), help=f"architecture (default: {_FAMILY})")
    add("--size", nargs="+", metavar="N|WxH", help="image sizes in pixels (default: 768)")
    add("--compare", nargs="+", metavar="METHOD",
        help="'all', or names of methods as in the table; dense is always measured (default: ToDo with the given "
        "settings; without settings, ToDo with its defaults and with a grid of 32)")  # fmt: skip
    add_number(add, "rounds", 10_000, "timed rounds (default: 2 on the CPU, 10 on CUDA)")
    add_number(add, "batch", 1024, "latents per call, two of which are one image with guidance; with --pipeline images "
               "(default: %(default)s)", default=1)  # fmt: skip
    add_number(add, "steps", 1000, "time whole sampling loops of N steps, not single calls (default with --pipeline: "
               f"{PUBLISHED.steps})")  # fmt: skip
    add_device(add)
    add_number(add, "threads", 1024, "torch's threads on the CPU; with 1, processor time is measured, which other "
                "programs disturb least")  # fmt: skip
    add("--published", action="store_true", help="measure the sizes, methods and rounds of the published run; takes "
        "hours on a CPU")  # fmt: skip
    add("--add", action="store_true", help="keep the other sizes in an existing file, if they were measured with the "
        "same model and versions on the same machine")  # fmt: skip
    add_output(add, "speed")
    add = add_pipeline(parser)
    add("--prompt", metavar="TEXT", help="(default: one of ten)")
    add_sampler(add)
    add_settings(parser)


def _add_overhead(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add_number(add, "calls", 100_000, "timed calls, of which the least counts (default: %(default)s)", default=500)
    add_output(add, "overhead")


def _add_fidelity(parser: argparse.ArgumentParser) -> None:
    add = add_sampling(parser, str(PUBLISHED))
    add("--size", nargs="+", metavar="N|WxH",
        help="in pixels (default: 1, 1.5 and 2 times the tiny model's trained size; with --pipeline 1024)")  # fmt: skip
    add("--prompt", nargs="+", metavar="TEXT",
        help="(default: all that the tiny model knows; with --pipeline ten)")  # fmt: skip
    add_number(add, "seeds", 10_000, "images per prompt (default: 1)")
    add("--compare", nargs="+", metavar="METHOD",
        help="names of methods as in the table (default: those of docs/fidelity.md)")  # fmt: skip
    add_knob(add, Knob("sharpness", float, 1.0, "Sharpness", "multiplies the queries, which concentrates attention "
             "on fewer keys", minimum=0, maximum=1000))  # fmt: skip
    add_number(add, "workers", 256, "processes of one thread each (default: 1)")
    add_output(add, "fidelity")
    add = add_pipeline(parser)
    add("--prompts", type=Path, metavar="FILE", help="a file with a prompt on each line")
    add("--paper", action="store_true", help="measure the paper's Table 1 again: its size, sampling and methods")
    add_device(add)


def _add_study(parser: argparse.ArgumentParser) -> None:
    add_number(parser.add_argument, "workers", 256, "processes of one thread each (default: %(default)s)", default=1)
    add_output(parser.add_argument, "study")


def _add_demo(parser: argparse.ArgumentParser) -> None:
    add = add_sampling(parser, str(PUBLISHED))
    add("--prompt", default="a cup of coffee", help="(default: %(default)s)")
    add("--size", metavar="N|WxH", help="in pixels (default: 256; with --pipeline 1024)")
    add_knob(add, Knob("seed", int, 0, "Seed", "of the noise", minimum=0, maximum=2**32 - 1))
    add_output(add, "demo")
    add_device(add_pipeline(parser))
    add_settings(parser, "settings (default: keep the share of keys/values per side that the defaults keep with SD1.5)")


def _speed(options: argparse.Namespace) -> None:
    from benchmarks.speed import cases
    from benchmarks.speed import run as speed

    refuse_without_pipeline(options, ["config", "prompt", "sampler", "guidance"])
    task = cases.task(
        model=options.model or _FAMILY, device=options.device or "auto", dtype=options.dtype, sizes=options.size,
        compare=options.compare, settings=given_settings(options), rounds=options.rounds,
        published=options.published, batch=options.batch, steps=options.steps or 0, threads=options.threads,
        folder=options.output, name=options.name, add=options.add,
    )  # fmt: skip
    speed.run(task)


def _overhead(options: argparse.Namespace) -> None:
    from benchmarks.speed import overhead

    overhead.run(options.calls, options.output, options.name)


def _fidelity(options: argparse.Namespace) -> None:
    from benchmarks.fidelity import run as fidelity
    from benchmarks.tiny.model import KNOWN_PROMPTS, SIZES, check_prompt, read_size

    refuse_without_pipeline(options)
    prompts = list(dict.fromkeys(options.prompt or KNOWN_PROMPTS))
    for prompt in prompts:
        check_prompt(prompt)
    task = fidelity.Task(
        sizes=list(dict.fromkeys(map(read_size, options.size or ()))) or SIZES, prompts=prompts,
        seeds=options.seeds or 1, methods=fidelity.methods(options.compare), sampling=sampling(options, PUBLISHED),
    )  # fmt: skip
    fidelity.run(task, options.output, options.name, options.workers or 1)


def _study(options: argparse.Namespace) -> None:
    from benchmarks.fidelity import study

    study.run(options.workers, options.output, options.name)


def _demo(options: argparse.Namespace) -> None:
    from benchmarks import demo
    from benchmarks.fidelity.methods import kept_of_trained
    from benchmarks.tiny.model import check_prompt, load, read_size
    from benchmarks.tiny.sampler import TinyImageModel

    refuse_without_pipeline(options)
    check_prompt(options.prompt)
    request = Request(
        options.prompt, (options.seed,), read_size(options.size or "256"), sampling(options, PUBLISHED)
    )  # fmt: skip
    panels = demo.with_settings(given_settings(options) or Settings(grid=kept_of_trained(KNOBS["grid"].default)))
    output.files(options.output, options.name, "png")
    demo.run(TinyImageModel(load()), "the embedded model", request, panels, options.output, options.name)


_COMMANDS: dict[str, tuple[Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], None], str]] = {
    "speed": (_add_speed, _speed, "Times a UNet with random weights, or a checkpoint's images: dense, with ToDo, and "
              "with alternatives."),
    "overhead": (_add_overhead, _overhead, "Times the patch's own hooks, idle and acting."),
    "fidelity": (_add_fidelity, _fidelity, "Measures how close images stay to the dense ones, with the tiny model or a "
                 "checkpoint."),
    "study": (_add_study, _study, "Measures which settings stay close in other conditions than the published one. "
              "Takes about an hour on one core."),
    "demo": (_add_demo, _demo, "Makes one image with the tiny model or a checkpoint, dense and with ToDo, from the "
             "same noise."),
}  # fmt: skip
"""What adds the options of a command, what runs it, and what it does."""
