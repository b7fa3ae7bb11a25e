"""What a speed run measures: image sizes, each with methods and rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.environment import DTYPES, usable_device
from benchmarks.method import DENSE, Method, check_names
from benchmarks.options import read_size
from benchmarks.speed.methods import DEFAULT, METHODS, per_side, todo_with
from todo import Settings, SettingsError
from todo.prediction import side_step

Size = tuple[int, int]
"""Width and height of an image in pixels."""


@dataclass(frozen=True)
class Case:
    """One size, and the methods that are measured at it in interleaved rounds, dense first."""

    size: Size
    methods: tuple[Method, ...]
    rounds: int


@dataclass(frozen=True)
class Task:
    """A whole run.

    Attributes:
        model: family of the UNet: 'sd1', 'sd2' or 'sdxl'.
        device, dtype: torch's names.
        batch: latents per call.
        steps: sampling steps of a timed loop; 0 to time single calls.
        threads: torch's threads on the CPU; None for torch's default.
        folder, name: the files are folder/name.json and folder/name.png.
        add: whether to keep the other sizes that the file already has, if they were measured in the same way.
    """

    model: str
    device: str
    dtype: str
    cases: tuple[Case, ...]
    batch: int = 1
    steps: int = 0
    threads: int | None = None
    folder: Path = Path("artifacts")
    name: str = "speed"
    add: bool = False


QUICK_ROUNDS = {"cpu": 2, "cuda": 10}
_QUICK_SIZE = (768, 768)
_LARGEST_SIDE = 16384

_ON_CUDA = {(512, 512): 10, (768, 768): 10, (1024, 1024): 10, (1344, 768): 10, (1536, 1536): 10, (1920, 1088): 10,
            (2048, 2048): 5, (3072, 3072): 5, (4096, 4096): 3}  # fmt: skip
_ON_CPU = {
    "sd1": {(512, 512): 5, (768, 512): 5, (768, 768): 3, (1024, 1024): 3, (1536, 1536): 2, (2048, 2048): 1},
    "sdxl": {(1024, 1024): 3, (1536, 1536): 2, (2048, 2048): 1},
}
"""By model, of SD2 as of SD1. What takes a few hours on one thread."""


def task(
    *,
    model: str,
    device: str,
    dtype: str | None,
    sizes: Sequence[str] | None,
    compare: Sequence[str] | None,
    settings: Settings | None,
    rounds: int | None,
    published: bool,
    **fields: Any,
) -> Task:
    """The task for the options of a command line, with defaults for options that were not given (None).

    Args:
        device: 'cpu', 'cuda' or 'auto'.
        sizes: each 'N' or 'WxH', in pixels.
        compare: names of methods, or 'all'.
        settings: of ToDo as a further method.
        published: measure the sizes, methods and rounds of the published run. Only `rounds` can be combined with it.
        fields: further fields of Task.

    Raises:
        SettingsError: a size or the name of a method is wrong, or `published` is combined with sizes, methods or
            settings.
    """
    if published and (sizes or compare or settings):
        raise SettingsError(
            "published", "published: fixes sizes, methods and settings; it cannot be combined with options for them"
        )
    if device == "auto":
        device = usable_device(device)
    if published:
        methods = tuple(METHODS.values())
        measured = _ON_CUDA if device == "cuda" else _ON_CPU.get(model, _ON_CPU["sd1"])
    else:
        methods = chosen_methods(compare, settings)
        measured = dict.fromkeys([_size(model, size) for size in sizes or ()] or [_QUICK_SIZE], QUICK_ROUNDS[device])
    cases = tuple(Case(size, methods, rounds or usual) for size, usual in measured.items())
    return Task(model, device, dtype or DTYPES[device], cases, **fields)


def chosen_methods(compare: Sequence[str] | None, settings: Settings | None) -> tuple[Method, ...]:
    """The methods for the options of a command line, dense first. Without options, ToDo with its defaults and with 32
    per side.

    Args:
        compare: names of methods, or 'all'.
        settings: of ToDo as a further method.

    Raises:
        SettingsError: the name of a method is wrong.
    """
    names = list(METHODS) if compare == ["all"] else list(compare or ())
    check_names(names, METHODS)
    if not names and not settings:
        names = [DEFAULT, per_side(32)]
    chosen = [*(METHODS[name] for name in (DENSE, *names)), *([todo_with(settings)] if settings else [])]
    return tuple({method.name: method for method in chosen}.values())


def _size(model: str, text: str) -> Size:
    """Width and height from 'N' or 'WxH', in multiples that the model's levels divide.

    Raises:
        SettingsError: the text is anything else.
    """
    height, width = read_size(text, side_step(model), _LARGEST_SIDE)
    return width, height
