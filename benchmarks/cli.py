"""What all command lines of the benchmarks share: settings as options, errors in one line."""

from __future__ import annotations

import argparse
import codecs
import io
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Any

from todo.__main__ import add_settings as setting_options
from todo.settings import KNOBS, Knob, Settings, SettingsError

_PLAIN = {"→": "->", "−": "-", "─": "-", "…": "...", "¼": "1/4", "×": "x", "·": "-", "–": "-", "±": "+-", "²": "2"}
"""Substitutes for characters that the console's encoding lacks."""

_UNLIMITED = 10**6
"""Columns of output that is not a terminal, such as a file or a pipe."""


def run(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
    hint: str,
    failures: tuple[type[Exception], ...] = (),
) -> int:
    """Parses a command line and calls its `options.command`, which takes the options and returns the exit status.

    A wrong setting or a missing package, which the user can fix, is reported in one line instead of a traceback.

    Args:
        hint: how to install a missing package.
        failures: further errors to report in one line.

    Returns:
        The command's exit status; 1 if a package is missing or the reader of the output closed the pipe.

    Raises:
        SystemExit: with status 2 for a wrong argument.
    """
    _adapt_to_console()
    try:
        options = parser.parse_args(arguments)
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
    """Python flushes once more at exit, which would fail again and print a traceback."""
    if sys.stdout:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def columns() -> int:
    """Width of the terminal in characters."""
    return shutil.get_terminal_size((_UNLIMITED, 24)).columns


def add_settings(parser: argparse.ArgumentParser, title: str = "settings") -> None:
    """Adds a group with an option for every setting."""
    setting_options(parser.add_argument_group(title), reader)


def given_settings(options: argparse.Namespace) -> Settings | None:
    """The settings from the command line; None if it names none."""
    given = {name: value for name in KNOBS if (value := getattr(options, name)) is not None}
    return Settings.from_dict(given) if given else None


def reader(knob: Knob) -> Callable[[str], Any]:
    """The parser of a knob's value, for argparse's `type`. It keeps the knob's own error message."""

    def read(text: str) -> Any:
        try:
            return knob.parse(text)
        except SettingsError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def _adapt_to_console() -> None:
    """Makes output to a console with a small character set print substitutes instead of failing."""
    codecs.register_error("todo-plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="todo-plain")


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_PLAIN.get(character, "?") for character in error.object[error.start : error.end]), error.end
