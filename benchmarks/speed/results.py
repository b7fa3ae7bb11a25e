"""What a run measured, and its form in JSON.

JSON also holds what follows from the measurements, for its readers. `from_json` computes that anew.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import output
from benchmarks.environment import Environment
from benchmarks.method import DENSE
from benchmarks.speed.growth import Growth, fit
from benchmarks.speed.methods import LIMIT
from benchmarks.speed.split import FINEST_LEVEL, SELF_ATTENTION, Split
from todo import Settings, SettingsError, plan

FINEST, ALL_LEVELS = "finest level", "all levels"

OUT_OF_MEMORY = "out of memory"

_GROWTH = "self_attention_growth"


@dataclass(frozen=True)
class Spread:
    """A figure's median over the rounds, with its lowest and highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """None if there are no values."""
        return cls(statistics.median(values), min(values), max(values)) if values else None


@dataclass(frozen=True)
class Counted:
    """What the patch reports of a level that was touched: keys per grid (h, w) before and after, calls of its
    self-attention in all rounds, and how many of them were downsampled."""

    level: int
    grid: tuple[int, int]
    tokens: int
    kept: int
    calls: int
    downsampled: int


@dataclass(frozen=True)
class Row:
    """One method at one size.

    Attributes:
        seconds: by round; None for a round that was not reached.
        note: why there is no effect, or no figure; '' where all is well.
        settings: ToDo's; None for other methods.
        counted: by level; empty for other methods.
        predicted_work_change: relative change of the UNet's work, -0.3 for 30 % less; None for other methods.
        peak_bytes: peak memory of a call above what was there before it.
    """

    method: str
    seconds: tuple[float | None, ...]
    note: str = ""
    settings: Settings | None = None
    counted: tuple[Counted, ...] = ()
    predicted_work_change: float | None = None
    peak_bytes: int | None = None
    split: Split | None = None

    @property
    def spread(self) -> Spread | None:
        """Seconds over the rounds."""
        return Spread.of([each for each in self.seconds if each is not None])


@dataclass(frozen=True)
class SizeResult:
    """All methods at one size, width and height in pixels. Their rounds are interleaved: the first seconds of each row
    were taken in turn, then the second, and so on. Some rows have fewer rounds than others.

    `identical` tells whether every dense output after a method was taken off had the same bits as before; None if none
    was compared.
    """

    width: int
    height: int
    rows: tuple[Row, ...]
    identical: bool | None = None

    @property
    def label(self) -> str:
        return f"{self.width}×{self.height}"

    @property
    def rounds(self) -> tuple[int, int]:
        """The fewest and the most that a method had."""
        counts = [len(row.seconds) for row in self.rows]
        return min(counts), max(counts)

    @property
    def complete(self) -> bool:
        """Whether every round was reached by every method that memory sufficed for."""
        return all(row.note == OUT_OF_MEMORY or None not in row.seconds for row in self.rows)

    def row(self, method: str) -> Row | None:
        return next((row for row in self.rows if row.method == method), None)

    def speedup(self, row: Row) -> Spread | None:
        """The dense time over the row's, round by round; None if there is no such round."""
        dense = self.row(DENSE)
        return _ratio(dense, row) if row is not dense else None

    def limit_share(self, row: Row) -> Spread | None:
        """The limit's time over the row's, round by round: 1 is as fast as any method of fewer keys can be."""
        limit = self.row(LIMIT)
        return _ratio(limit, row) if row is not limit else None


@dataclass(frozen=True)
class Result:
    """A whole run.

    Attributes:
        parameters: how many the UNet has.
        batch: images per call; 2 is one image with its negative prompt.
        steps: sampling steps in each timed unit; 0 for a single call.
        methods: what each method does, by name.
        interrupted: whether the run was ended early.
    """

    environment: Environment
    model: str
    parameters: int
    batch: int
    steps: int
    methods: dict[str, str]
    sizes: tuple[SizeResult, ...] = ()
    interrupted: bool = False

    @property
    def complete(self) -> int:
        """How many sizes have every round of every method."""
        return sum(size.complete for size in self.sizes)

    @property
    def identical(self) -> bool | None:
        """Whether taking methods off left the UNet as it was at every size; None if it was compared at none."""
        seen = [size.identical for size in self.sizes if size.identical is not None]
        return all(seen) if seen else None

    def including(self, size: SizeResult) -> Result:
        """This run with a further size, or one in the place of the same size's earlier results."""
        if all(each.label != size.label for each in self.sizes):
            return replace(self, sizes=(*self.sizes, size))
        return replace(self, sizes=tuple(size if each.label == size.label else each for each in self.sizes))

    def continuing(self, earlier: Result) -> Result:
        """This run with an earlier one's complete sizes before its own. Ratios are taken within a size, so that sizes of
        several runs can stand side by side.

        Raises:
            SettingsError: the earlier run measured something else, or elsewhere.
        """
        alike = replace(
            earlier, environment=replace(earlier.environment, date=self.environment.date), methods=self.methods,
            sizes=self.sizes, interrupted=self.interrupted,
        )  # fmt: skip
        if alike != self:
            raise SettingsError("add", "add: the file has results of another model, batch, machine or version")
        complete = tuple(size for size in earlier.sizes if size.complete)
        return replace(self, methods={**earlier.methods, **self.methods}, sizes=complete + self.sizes)

    def growth(self, level: str) -> dict[str, Growth]:
        """By method, how self-attention's time grows with the tokens of the finest level. `level` is FINEST or
        ALL_LEVELS. Methods measured at a single size are left out."""
        found = {}
        for method in self.methods:
            rows = [(size, row.split) for size in self.sizes if (row := size.row(method)) and row.split]
            tokens = [_finest_tokens(self.model, size) for size, _ in rows]
            law = fit(tokens, [_self_attention(split, level) for _, split in rows])
            if law:
                found[method] = law
        return found


def to_json(result: Result) -> dict[str, Any]:
    """The result for JSON. Seconds are given by round and as their median, lowest and highest."""
    return {
        **asdict(result),
        "sizes": [_size_to_json(size) for size in result.sizes],
        _GROWTH: {
            level: {method: asdict(law) for method, law in result.growth(level).items()}
            for level in (FINEST, ALL_LEVELS)
        },
    }


def from_json(values: dict[str, Any]) -> Result:
    """The result that `to_json` was given."""
    own = {name: value for name, value in values.items() if name != _GROWTH}
    sizes = tuple(map(_size_from_json, values["sizes"]))
    return Result(**{**own, "environment": Environment(**values["environment"]), "sizes": sizes})


def read(path: Path) -> Result:
    return from_json(output.read_json(path))


def write(result: Result, path: Path) -> None:
    output.write_json(to_json(result), path)


def _size_to_json(size: SizeResult) -> dict[str, Any]:
    return {**asdict(size), "rows": [_row_to_json(size, row) for row in size.rows]}


def _size_from_json(values: dict[str, Any]) -> SizeResult:
    return SizeResult(**{**values, "rows": tuple(map(_row_from_json, values["rows"]))})


def _row_to_json(size: SizeResult, row: Row) -> dict[str, Any]:
    """A row with what follows from it. Settings are written in full, so that they hold whatever becomes default."""
    return {
        "method": row.method,
        "note": row.note,
        "settings": row.settings and row.settings.to_dict(),
        "counted": [asdict(level) for level in row.counted],
        "predicted_work_change": row.predicted_work_change,
        "seconds": {**_spread_to_json(row.spread), "rounds": list(row.seconds)},
        "speedup": _spread_to_json(size.speedup(row)),
        "limit_share": _spread_to_json(size.limit_share(row)),
        "peak_bytes": row.peak_bytes,
        "split": row.split and asdict(row.split),
    }


def _row_from_json(values: dict[str, Any]) -> Row:
    return Row(
        method=values["method"],
        seconds=tuple(values["seconds"]["rounds"]),
        note=values["note"],
        settings=values["settings"] and Settings.from_dict(values["settings"]),
        counted=tuple(Counted(**{**level, "grid": tuple(level["grid"])}) for level in values["counted"]),
        predicted_work_change=values["predicted_work_change"],
        peak_bytes=values["peak_bytes"],
        split=values["split"] and Split(**values["split"]),
    )


def _spread_to_json(spread: Spread | None) -> dict[str, Any]:
    return asdict(spread) if spread else {}


def _ratio(above: Row | None, below: Row) -> Spread | None:
    """One row's time over another's, round by round."""
    pairs = zip(above.seconds, below.seconds, strict=False) if above else ()
    return Spread.of([a / b for a, b in pairs if a is not None and b is not None])


def _finest_tokens(model: str, size: SizeResult) -> int:
    """Tokens of the model's finest self-attention."""
    return plan(size.width, size.height, Settings(), model).levels[0].tokens


def _self_attention(split: Split, level: str) -> float:
    return split.levels[FINEST_LEVEL] if level == FINEST else split.kinds[SELF_ATTENTION]
