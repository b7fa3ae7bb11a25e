"""Options that several commands have, and how their values are read."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.sampling import SAMPLERS, Sampling
from todo import Settings, SettingsError
from todo.__main__ import add_settings as setting_options
from todo.settings import KNOBS, Knob

_PIPELINE_STEP, _PIPELINE_LARGEST = 64, 8192
"""Sides of a pipeline's images in pixels: all levels of all families divide them."""

_NEEDING_PIPELINE = ("config", "prompts", "device", "dtype", "paper")


def add_sampling(parser: argparse.ArgumentParser, default: str) -> Callable[..., Any]:
    """Adds the options of sampling, whose help gives a default in words. Returns the function that adds more."""
    add = parser.add_argument_group("sampling", f"(default: {default})").add_argument
    add_number(add, "steps", 1000, "sampling steps")
    add_sampler(add)
    return add


def add_sampler(add: Callable[..., Any]) -> None:
    """Adds the options of sampler and guidance."""
    add("--sampler", choices=SAMPLERS, help="by its name in WebUIs")
    knob = Knob("guidance", float, None, "Guidance", "", minimum=0, maximum=100)
    add("--guidance", type=reader(knob), metavar="FLOAT", help=f"CFG scale; 1 is none, {knob.allowed}")


def add_pipeline(parser: argparse.ArgumentParser) -> Callable[..., Any]:
    """Adds the options for a checkpoint. Returns the function that adds more to their group."""
    add = parser.add_argument_group("a checkpoint instead of random weights or the tiny model").add_argument
    add("--pipeline", metavar="WHERE", help="a diffusers folder, a hub id, or a .safetensors or .ckpt file")
    add("--config", metavar="WHERE", help="folder or hub id of a pipeline with the configuration and the tokenizer of "
        "a single file (default: what diffusers finds on the hub for its kind)")  # fmt: skip
    return add


def add_device(add: Callable[..., Any]) -> None:
    add("--device", choices=("auto", "cpu", "cuda"), help="(default: CUDA if available)")
    add("--dtype", choices=("float32", "float16", "bfloat16"), help="(default: float32 on the CPU, float16 on CUDA)")


def add_output(add: Callable[..., Any], name: str) -> None:
    add("--output", type=Path, default=Path("artifacts"), metavar="DIR", help="output folder (default: %(default)s)")
    add("--name", default=name, help="name of the files without extension (default: %(default)s)")


def add_number(add: Callable[..., Any], name: str, maximum: int, help: str, default: int | None = None) -> None:
    """Adds an option for a whole number from 1 to `maximum`."""
    knob = Knob(name, int, None, name.title(), help, minimum=1, maximum=maximum)
    add(f"--{name}", type=reader(knob), metavar="N", default=default, help=help)


def add_knob(add: Callable[..., Any], knob: Knob, default: str = "%(default)s") -> None:
    """Adds an option whose help gives the allowed range and the default."""
    add(f"--{knob.name}", type=reader(knob), metavar=knob.kind.__name__.upper(), default=knob.default,
        help=f"{knob.help}, {knob.allowed} (default: {default})")  # fmt: skip


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


def sampling(options: argparse.Namespace, default: Sampling) -> Sampling:
    """The sampling that the options ask for, with defaults for those that were not given."""
    given = {name: getattr(options, name, None) for name in ("steps", "sampler", "guidance", "sharpness")}
    return replace(default, **{name: value for name, value in given.items() if value is not None})


def refuse(options: argparse.Namespace, names: Sequence[str], reason: str) -> None:
    """Refuses options that do not go together with another.

    Raises:
        SettingsError: one of them was given.
    """
    for name in names:
        if getattr(options, name, None) not in (None, False):
            raise SettingsError(name, f"{name}: {reason}")


def refuse_without_pipeline(options: argparse.Namespace, names: Sequence[str] = _NEEDING_PIPELINE) -> None:
    """Refuses the options of a checkpoint where none is given.

    Raises:
        SettingsError: one of them was given.
    """
    refuse(options, names, "goes with a checkpoint only; name one with --pipeline")


def read_size(text: str, step: int = _PIPELINE_STEP, largest: int = _PIPELINE_LARGEST) -> tuple[int, int]:
    """An image's (height, width) in pixels from 'N' or 'WxH', in multiples of `step`.

    Raises:
        SettingsError: the text is anything else.
    """
    parts = text.lower().replace("×", "x").split("x")
    if len(parts) > 2 or not all(_is_side(part, step, largest) for part in parts):
        allowed = f"N or WxH in multiples of {step}, up to {largest}"
        raise SettingsError("size", f"size: {text[:40]!r} is not allowed; it must be {allowed}")
    return int(parts[-1]), int(parts[0])


def _is_side(text: str, step: int, largest: int) -> bool:
    return text.isdecimal() and len(text) < 10 and 0 < int(text) <= largest and int(text) % step == 0


def read_prompts(path: Path) -> list[str]:
    """The prompts of a file, one a line. Empty lines and repeated prompts are left out.

    Raises:
        SettingsError: the file cannot be read or has no prompt.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise SettingsError("prompts", f"prompts: {str(path)!r} cannot be read: {reason}") from None
    prompts = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not prompts:
        raise SettingsError("prompts", f"prompts: {str(path)!r} has no prompt; it must have one a line")
    return prompts
