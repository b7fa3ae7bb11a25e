"""What the command lines of this package and of the benchmarks share: settings as options, and one line for whatever
goes wrong."""

from __future__ import annotations

import argparse
import codecs
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from .settings import KNOBS, Knob, Settings, SettingsError

_PLAIN = {"→": "->", "−": "-", "─": "-", "…": "...", "¼": "1/4", "×": "x", "·": "-", "–": "-", "±": "+-", "²": "2"}
"""What stands for a character where the console's encoding lacks it."""


def run(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
    hint: str,
    failures: tuple[type[Exception], ...] = (),
) -> int:
    """Parses a command line and runs its command, `options.command`, a function of the options that returns the exit
    status. Whatever goes wrong in a way that a user can mend is told in one line.

    Args:
        hint: how to get a package that is missing.
        failures: further errors whose message is all that a user needs.

    Returns:
        The exit status: 1 for a failed command, or one whose output nobody reads any more. A wrong argument exits
        with 2.
    """
    _adapt_to_console()
    options = parser.parse_args(arguments)
    try:
        status: int = options.command(options)
        if sys.stdout:  # None where the caller has closed it
            sys.stdout.flush()
        return status
    except SettingsError as error:
        parser.error(str(error))
    except ModuleNotFoundError as error:
        print(f"{parser.prog} needs the package {error.name!r}; {hint}", file=sys.stderr)
    except failures as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            print(f"{parser.prog}: {error}", file=sys.stderr)
        _drop_output()
    return 1


def _drop_output() -> None:
    """Python would flush once more at its end, and complain."""
    if sys.stdout:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def add_settings(parser: argparse.ArgumentParser, title: str = "settings") -> None:
    """Adds an option for every knob."""
    group = parser.add_argument_group(title)
    for name, knob in KNOBS.items():
        described = f"{knob.help} {knob.allowed.capitalize()}; default {knob.default}."
        optional: dict[str, Any] = {"nargs": "?", "const": True} if knob.kind is bool else {}
        group.add_argument(
            f"--{name.replace('_', '-')}", type=reader(knob), dest=name, metavar=knob.kind.__name__.upper(),
            help=described.replace("%", "%%"), **optional,
        )  # fmt: skip


def given_settings(options: argparse.Namespace) -> Settings | None:
    """The settings that were named on the command line; None where none was."""
    given = {name: value for name in KNOBS if (value := getattr(options, name)) is not None}
    return Settings.from_dict(given) if given else None


def reader(knob: Knob) -> Callable[[str], Any]:
    """The knob's own parsing, with its own message, as argparse wants it."""

    def read(text: str) -> Any:
        try:
            return knob.parse(text)
        except SettingsError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def _adapt_to_console() -> None:
    """Prints a substitute for every character that the console's encoding lacks, instead of failing."""
    codecs.register_error("todo-plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="todo-plain")


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_PLAIN.get(each, "?") for each in error.object[error.start : error.end]), error.end
