"""What a run measures: sizes, each with methods and rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.environment import usable_device
from benchmarks.method import DENSE, Method, check_names
from benchmarks.speed.methods import CLOSE, GRID_32, LIMIT, METHODS, TODO, todo_with
from todo import Settings, SettingsError, plan
from todo.plan import LATENT_SCALE, side_step

Size = tuple[int, int]
"""An image's width and height in pixels."""


@dataclass(frozen=True)
class Case:
    """One size with the methods that are measured at it, dense first, in interleaved rounds. In further rounds only the
    methods close to the limit take part: they are fast, and they differ from it by less than rounds do."""

    size: Size
    methods: tuple[Method, ...]
    rounds: int
    further: int = 0

    @property
    def latent(self) -> tuple[int, int]:
        """The latent's height and width."""
        width, height = self.size
        return height // LATENT_SCALE, width // LATENT_SCALE

    def rounds_of(self, method: Method) -> int:
        return self.rounds + (self.further if method.name in CLOSE else 0)


@dataclass(frozen=True)
class Task:
    """A whole run, as the command line asks for it.

    Attributes:
        device, dtype: as torch names them.
        batch: images per call.
        steps: sampling steps in each timed unit; 0 for a single call.
        threads: torch's threads; None for its own choice.
        folder, name: the files are folder/name.json and folder/name.png.
        add: whether results of the same kind that the file has at other sizes are kept.
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


QUICK = (TODO, GRID_32)
QUICK_SIZE = (768, 768)
QUICK_ROUNDS = {"cpu": 2, "cuda": 10}
"""What a run without options measures, beside dense."""

_DTYPES = {"cpu": "float32", "cuda": "float16"}
"""What hosts use on each."""

_ALL = tuple(METHODS.values())
_SOME = tuple(METHODS[name] for name in (DENSE, TODO, GRID_32, LIMIT))

_ON_CPU = (
    Case((512, 512), _ALL, 2),
    Case((768, 768), _ALL, 2),
    Case((1024, 1024), _ALL, 3, further=3),
    Case((1344, 768), _SOME, 2),
    Case((1536, 1536), _ALL, 2, further=2),
    Case((2048, 2048), _ALL, 1, further=2),
)
"""A little over two hours on one thread."""

_SDXL_ON_CPU = (Case((1024, 1024), _ALL, 2), Case((1536, 1536), _SOME, 2), Case((2048, 2048), _SOME, 1))
"""About an hour and a half. Below 1024² there is next to nothing to gain."""

_ON_CUDA = (
    *(Case((side, side), _ALL, 10) for side in (512, 768, 1024)),
    Case((1344, 768), _ALL, 10),
    Case((1536, 1536), _ALL, 10),
    Case((1920, 1088), _ALL, 10),
    *(Case((side, side), _ALL, 5) for side in (2048, 3072, 4096)),
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
    **rest: Any,
) -> Task:
    """The task that a command line asks for, with defaults for what it leaves open (None).

    Args:
        device: 'cpu', 'cuda' or 'auto'.
        sizes: as 'N' or 'WxH', in pixels.
        compare: names of methods, or 'all'.
        settings: of a further ToDo.
        published: take the published run's sizes, methods and rounds. Only the rounds may be given beside it.
        rest: further fields of Task.

    Raises:
        SettingsError: a size or the name of a method is wrong, or sizes, methods or settings are given beside
            `published`.
    """
    if published and (sizes or compare or settings):
        raise SettingsError("published", "published: has sizes, methods and settings of its own; give none beside it")
    device = usable_device(device)
    chosen = [METHODS[DENSE], *_compared(compare), *([todo_with(settings)] if settings else [])]
    if published:
        found = _published(model, device)
    else:
        if len(chosen) == 1:
            chosen += [METHODS[name] for name in QUICK]
        pixels = [_size(model, size) for size in sizes] if sizes else [QUICK_SIZE]
        methods = tuple({method.name: method for method in chosen}.values())
        found = tuple(Case(size, methods, QUICK_ROUNDS[device]) for size in dict.fromkeys(pixels))
    if rounds:
        found = tuple(replace(case, rounds=rounds, further=0) for case in found)
    return Task(model, device, dtype or _DTYPES[device], found, **rest)


def _published(model: str, device: str) -> tuple[Case, ...]:
    """The run whose results are published: all sizes on CUDA, and on the CPU those that take some hours."""
    on_cpu = _SDXL_ON_CPU if model == "sdxl" else _ON_CPU
    return on_cpu if device == "cpu" else _ON_CUDA


def _compared(names: Sequence[str] | None) -> list[Method]:
    if names == ["all"]:
        return list(METHODS.values())
    check_names(names or (), METHODS)
    return [METHODS[name] for name in names or ()]


def _size(model: str, text: str) -> Size:
    """Width and height from 'N' or 'WxH'."""
    width, by, height = text.partition("x")
    sides: tuple[Any, Any] = (width, height if by else width)
    expected = plan(*sides, Settings(), model)
    step = side_step(model)
    if expected.width % step or expected.height % step:
        raise SettingsError("size", f"size: {text!r} is not allowed; sides must be multiples of {step}")
    return expected.width, expected.height
