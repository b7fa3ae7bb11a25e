"""What a speed run measures: image sizes, each with methods and rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.environment import DTYPES, usable_device
from benchmarks.method import DENSE, LatentSize, Method, check_names
from benchmarks.speed.methods import BETWEEN, CLOSE, GRID_32, GRID_48, GRID_64, HYPERTILE, LIMIT, METHODS, todo_with
from benchmarks.speed.models import latent_size
from todo import Settings, SettingsError, plan
from todo.prediction import side_step

Size = tuple[int, int]
"""Width and height of an image in pixels."""


@dataclass(frozen=True)
class Case:
    """One size and the methods measured at it.

    Attributes:
        methods: measured in interleaved rounds, dense first.
        rounds: of all methods.
        further: additional rounds of the methods close to the limit. They are fast, and differ from the limit by less
            than rounds vary.
    """

    size: Size
    methods: tuple[Method, ...]
    rounds: int
    further: int = 0

    @property
    def latent(self) -> LatentSize:
        return latent_size(self.size)

    def rounds_of(self, method: Method) -> int:
        """The number of rounds that a method takes part in."""
        return self.rounds + (self.further if method.name in CLOSE else 0)


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


_QUICK = (GRID_48, GRID_32)
"""The methods that a run without options measures, besides dense."""

_QUICK_SIZE = (768, 768)
QUICK_ROUNDS = {"cpu": 2, "cuda": 10}

_ALL = tuple(METHODS.values())
_FEWER = tuple(method for method in _ALL if method.name not in BETWEEN)
_SOME = tuple(METHODS[name] for name in (DENSE, GRID_64, GRID_48, GRID_32, LIMIT))

_ON_CPU = (
    Case((512, 512), _FEWER, 2),
    Case((768, 768), _FEWER, 2),
    Case((1024, 1024), _FEWER, 3, further=3),
    Case((1344, 768), _SOME, 2),
    Case((1536, 1536), _FEWER, 2, further=2),
    Case((2048, 2048), _FEWER, 1, further=2),
)
"""A little over two hours on one thread."""

_SDXL_ON_CPU = (Case((1024, 1024), _FEWER, 2), Case((1536, 1536), _SOME, 2), Case((2048, 2048), _SOME, 1))
"""About an hour and a half. Below 1024² there is hardly anything to gain."""

_ON_CUDA = (
    *(Case((side, side), _ALL, 10) for side in (512, 768, 1024)),
    Case((1344, 768), _ALL, 10),
    Case((1536, 1536), _ALL, 10),
    Case((1920, 1088), _ALL, 10),
    Case((2048, 2048), _ALL, 5),
    Case((3072, 3072), _FEWER, 5),
    Case((4096, 4096), (*_SOME, METHODS[HYPERTILE]), 3),
)


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
        cases = _published(model, device)
    else:
        methods = chosen_methods(compare, settings)
        chosen_sizes = [_size(model, size) for size in sizes] if sizes else [_QUICK_SIZE]
        cases = tuple(Case(size, methods, QUICK_ROUNDS[device]) for size in dict.fromkeys(chosen_sizes))
    if rounds:
        cases = tuple(replace(case, rounds=rounds, further=0) for case in cases)
    return Task(model, device, dtype or DTYPES[device], cases, **fields)


def chosen_methods(compare: Sequence[str] | None, settings: Settings | None) -> tuple[Method, ...]:
    """The methods for the options of a command line, dense first. Without options, ToDo with 48 and with 32 per side.

    Args:
        compare: names of methods, or 'all'.
        settings: of ToDo as a further method.

    Raises:
        SettingsError: the name of a method is wrong.
    """
    chosen = [METHODS[DENSE], *_compared(compare), *([todo_with(settings)] if settings else [])]
    if len(chosen) == 1:
        chosen += [METHODS[name] for name in _QUICK]
    return tuple({method.name: method for method in chosen}.values())


def _published(model: str, device: str) -> tuple[Case, ...]:
    """The cases of the published run. On the CPU they are limited to what takes a few hours."""
    if device == "cuda":
        return _ON_CUDA
    return _SDXL_ON_CPU if model == "sdxl" else _ON_CPU


def _compared(names: Sequence[str] | None) -> list[Method]:
    if names == ["all"]:
        return list(METHODS.values())
    check_names(names or (), METHODS)
    return [METHODS[name] for name in names or ()]


def _size(model: str, text: str) -> Size:
    """Width and height from 'N' or 'WxH'.

    Raises:
        SettingsError: the size cannot be planned, or the model's levels do not divide it.
    """
    width, by, height = text.lower().replace("×", "x").partition("x")
    sides: tuple[Any, Any] = (width, height if by else width)
    planned = plan(*sides, Settings(), model)
    step = side_step(model)
    if planned.width % step or planned.height % step:
        raise SettingsError("size", f"size: {text!r} is not allowed; sides must be multiples of {step}")
    return planned.width, planned.height
