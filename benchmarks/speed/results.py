"""The results of a speed run, and reading and writing them as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import output
from benchmarks.environment import Environment
from benchmarks.method import DENSE, StaleError
from benchmarks.speed.methods import METHODS
from benchmarks.speed.models import latent_size
from todo import Settings, SettingsError, plan

Kept = tuple[int, ...]
"""Keys of a call by level, finest first, without the middle block."""


@dataclass(frozen=True)
class Spread:
    """A figure over the rounds: the median, and the lower and the upper quartile. Fewer than four rounds have the least
    and the most instead."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """The spread of values; None if there are none."""
        if len(values) < 4:
            return cls(statistics.median(values), min(values), max(values)) if values else None
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


@dataclass(frozen=True)
class Row:
    """One method at one size.

    Attributes:
        method: its name when it was measured.
        seconds: by round; None for a round that was not reached.
        kept: what the patch counted; None for methods other than ToDo.
        out_of_memory: whether a call did not fit.
        peak_bytes: peak memory of a call, above what was held before it; None where the device does not track it.
    """

    method: str
    seconds: tuple[float | None, ...]
    kept: Kept | None = None
    out_of_memory: bool = False
    peak_bytes: int | None = None

    @property
    def spread(self) -> Spread | None:
        """Seconds over the rounds."""
        return Spread.of([seconds for seconds in self.seconds if seconds is not None])


@dataclass(frozen=True)
class SizeResult:
    """All methods at one size. Their rounds are interleaved: all rows' first rounds were measured in turn, then all
    second ones, and so on.

    Attributes:
        width, height: of the image in pixels.
    """

    width: int
    height: int
    rows: tuple[Row, ...]

    @property
    def label(self) -> str:
        """Width and height, as WebUIs write them; a square's side with ²."""
        return f"{self.width}²" if self.width == self.height else f"{self.width}×{self.height}"

    @property
    def rounds(self) -> int:
        """The number of rounds of all methods."""
        return len(self.rows[0].seconds)

    @property
    def complete(self) -> bool:
        """Whether every method that fits into memory has all its rounds."""
        return all(row.out_of_memory or None not in row.seconds for row in self.rows)

    def row(self, method: str) -> Row | None:
        return next((row for row in self.rows if row.method == method), None)

    def speedup(self, method: str, over: str = DENSE) -> Spread | None:
        """How many times faster a method is than another, by round; None if no round has both."""
        row, other = self.row(method), self.row(over)
        pairs = zip(other.seconds, row.seconds, strict=False) if row and other else ()
        return Spread.of([a / b for a, b in pairs if a is not None and b is not None])


@dataclass(frozen=True)
class Result:
    """A run.

    Attributes:
        model: family of the UNet.
        batch: latents per call.
        steps: sampling steps of a timed loop; 0 for single calls.
        sizes: in the order of measurement.
    """

    environment: Environment
    model: str
    batch: int
    steps: int
    sizes: tuple[SizeResult, ...] = ()

    @property
    def methods(self) -> list[str]:
        """The names of all methods."""
        return list(dict.fromkeys(row.method for size in self.sizes for row in size.rows))

    @property
    def complete(self) -> int:
        """The number of complete sizes."""
        return sum(size.complete for size in self.sizes)

    def including(self, size: SizeResult) -> Result:
        """This run with a size added, or replaced if it has results already."""
        if all(other.label != size.label for other in self.sizes):
            return replace(self, sizes=(*self.sizes, size))
        return replace(self, sizes=tuple(size if other.label == size.label else other for other in self.sizes))

    def continuing(self, earlier: Result) -> Result:
        """This run with an earlier one's complete sizes before its own. Sizes of several runs can be combined, since
        ratios are only taken within a size.

        Raises:
            SettingsError: the runs differ in more than date and sizes.
        """
        same_day = replace(earlier.environment, date=self.environment.date)
        if replace(earlier, environment=same_day, sizes=self.sizes) != self:
            raise SettingsError("add", "add: the file has results of another model, batch, machine or version")
        return replace(self, sizes=tuple(size for size in earlier.sizes if size.complete) + self.sizes)


def predicted(settings: Settings, size: SizeResult, result: Result) -> Kept:
    """What settings keep at a size."""
    return tuple(
        level.kept for level in plan(size.width, size.height, settings, result.model, steps=result.steps).levels
    )


def keeps_all(size: SizeResult, result: Result, method: str) -> bool:
    """Whether ToDo left the image alone."""
    row = size.row(method)
    return row is not None and row.kept == predicted(Settings(mode="manual", factor=1), size, result)


def present(result: Result) -> Result:
    """A published result by the names of today's methods. A row of ToDo is found by what it kept, whatever its settings
    were called. Where several methods keep the same, the row stands for each of them.

    Raises:
        StaleError: no method of today does what a row did.
    """
    return replace(result, sizes=tuple(_present(size, result) for size in result.sizes))


def _present(size: SizeResult, result: Result) -> SizeResult:
    latent = latent_size((size.width, size.height))
    today = {
        name: method.settings and predicted(method.settings(latent), size, result) for name, method in METHODS.items()
    }
    for row in size.rows:
        if row.kept is None and row.method not in today:
            raise StaleError(f"{row.method!r} at {size.label} is no method of today")
        if row.kept is not None and row.kept not in today.values():
            now = f"today it keeps {today[row.method]}" if today.get(row.method) else "no method of today does"
            raise StaleError(f"{row.method!r} at {size.label} kept {row.kept} keys; {now}")
    found = {name: [row for row in size.rows if _is(row, name, kept)] for name, kept in today.items()}
    return replace(size, rows=tuple(replace(rows[0], method=name) for name, rows in found.items() if rows))


def _is(row: Row, name: str, kept: Kept | None) -> bool:
    return row.method == name if kept is None else row.kept == kept


def read(path: Path) -> Result:
    values: dict[str, Any] = output.read_json(path)
    sizes = tuple(_size(size) for size in values["sizes"])
    return Result(**{**values, "environment": Environment(**values["environment"]), "sizes": sizes})


def _size(values: dict[str, Any]) -> SizeResult:
    return SizeResult(**{**values, "rows": tuple(map(_row, values["rows"]))})


def _row(values: dict[str, Any]) -> Row:
    kept = values["kept"]
    return Row(**{**values, "seconds": tuple(values["seconds"]), "kept": kept if kept is None else tuple(kept)})


def write(result: Result, path: Path) -> None:
    output.write_json(asdict(result), path)
