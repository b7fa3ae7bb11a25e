"""The results of a speed run, and reading and writing them as JSON.

For its readers, the JSON also holds figures derived from the measurements. `from_json` ignores them, since they are
computed again when needed.
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
    """The median of a figure over the rounds, with the lowest and the highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """The spread of values; None if there are none."""
        return cls(statistics.median(values), min(values), max(values)) if values else None


@dataclass(frozen=True)
class Counted:
    """What the patch counted at one level.

    Attributes:
        level: 1 for the model's finest, 2 for half its size per side, and so on.
        grid: (h, w).
        tokens: keys of a call before downsampling.
        kept: keys of a call after downsampling.
        calls: of the level's self-attention blocks, in all rounds.
        downsampled: how many of the calls were downsampled.
    """

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
        note: why the method has no effect or no figures; '' otherwise.
        settings: ToDo's; None for other methods.
        counted: by level; empty for other methods.
        predicted_work_change: relative change of the UNet's work, -0.3 for 30 % less; None for other methods.
        peak_bytes: peak memory of a call, above what was held before it.
        split: of one call; None if it was not measured.
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
        return Spread.of([seconds for seconds in self.seconds if seconds is not None])


@dataclass(frozen=True)
class SizeResult:
    """All methods at one size. Their rounds are interleaved: all rows' first rounds were measured in turn, then all
    second ones, and so on. Some rows have fewer rounds than others.

    Attributes:
        width, height: of the image in pixels.
        identical: whether all dense outputs were bit-identical, also after other methods had been applied and removed;
            None if none were compared.
    """

    width: int
    height: int
    rows: tuple[Row, ...]
    identical: bool | None = None

    @property
    def label(self) -> str:
        """Width and height, as WebUIs write them."""
        return f"{self.width}×{self.height}"

    @property
    def rounds(self) -> tuple[int, int]:
        """The fewest and the most rounds of a method."""
        counts = [len(row.seconds) for row in self.rows]
        return min(counts), max(counts)

    @property
    def complete(self) -> bool:
        """Whether every method that fits into memory has all its rounds."""
        return all(row.note == OUT_OF_MEMORY or None not in row.seconds for row in self.rows)

    def row(self, method: str) -> Row | None:
        return next((row for row in self.rows if row.method == method), None)

    def speedup(self, row: Row) -> Spread | None:
        """The dense time over the row's, by round; None if no round has both."""
        dense = self.row(DENSE)
        return _ratio(dense, row) if row is not dense else None

    def limit_share(self, row: Row) -> Spread | None:
        """The limit's time over the row's, by round: 1 is as fast as any method that reduces keys can be."""
        limit = self.row(LIMIT)
        return _ratio(limit, row) if row is not limit else None


@dataclass(frozen=True)
class Result:
    """A whole run.

    Attributes:
        parameters: the UNet's number of parameters.
        batch: latents per call; 2 is one image with guidance.
        steps: sampling steps of a timed loop; 0 for single calls.
        methods: what each method does, by name.
        interrupted: whether the run ended early.
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
        """The number of complete sizes."""
        return sum(size.complete for size in self.sizes)

    @property
    def identical(self) -> bool | None:
        """Whether removing methods restored the UNet exactly, at every size; None if nothing was compared."""
        compared = [size.identical for size in self.sizes if size.identical is not None]
        return all(compared) if compared else None

    def including(self, size: SizeResult) -> Result:
        """This run with a size added, or replaced if it has results already."""
        if all(other.label != size.label for other in self.sizes):
            return replace(self, sizes=(*self.sizes, size))
        return replace(self, sizes=tuple(size if other.label == size.label else other for other in self.sizes))

    def continuing(self, earlier: Result) -> Result:
        """This run with an earlier one's complete sizes before its own. Sizes of several runs can be combined, since
        ratios are only taken within a size.

        Raises:
            SettingsError: the runs differ in more than date, methods and sizes.
        """
        comparable = replace(
            earlier, environment=replace(earlier.environment, date=self.environment.date), methods=self.methods,
            sizes=self.sizes, interrupted=self.interrupted,
        )  # fmt: skip
        if comparable != self:
            raise SettingsError("add", "add: the file has results of another model, batch, machine or version")
        complete = tuple(size for size in earlier.sizes if size.complete)
        return replace(self, methods={**earlier.methods, **self.methods}, sizes=complete + self.sizes)

    def growth(self, level: str) -> dict[str, Growth]:
        """How self-attention's time grows with the tokens of the finest level, by method. Methods measured at fewer
        than two sizes are left out.

        Args:
            level: FINEST or ALL_LEVELS: whose self-attention.
        """
        laws = {}
        for method in self.methods:
            rows = [(size, row.split) for size in self.sizes if (row := size.row(method)) and row.split]
            tokens = [_finest_tokens(self.model, size) for size, _ in rows]
            law = fit(tokens, [_self_attention(split, level) for _, split in rows])
            if law:
                laws[method] = law
        return laws


def to_json(result: Result) -> dict[str, Any]:
    """The result as JSON values. Seconds are given by round, and as median, lowest and highest."""
    return {
        **asdict(result),
        "sizes": [_size_to_json(size) for size in result.sizes],
        _GROWTH: {
            level: {method: asdict(law) for method, law in result.growth(level).items()}
            for level in (FINEST, ALL_LEVELS)
        },
    }


def from_json(values: dict[str, Any]) -> Result:
    """The inverse of `to_json`."""
    fields = {name: value for name, value in values.items() if name != _GROWTH}
    sizes = tuple(map(_size_from_json, values["sizes"]))
    return Result(**{**fields, "environment": Environment(**values["environment"]), "sizes": sizes})


def read(path: Path) -> Result:
    return from_json(output.read_json(path))


def write(result: Result, path: Path) -> None:
    output.write_json(to_json(result), path)


def _size_to_json(size: SizeResult) -> dict[str, Any]:
    return {**asdict(size), "rows": [_row_to_json(size, row) for row in size.rows]}


def _size_from_json(values: dict[str, Any]) -> SizeResult:
    return SizeResult(**{**values, "rows": tuple(map(_row_from_json, values["rows"]))})


def _row_to_json(size: SizeResult, row: Row) -> dict[str, Any]:
    """A row with derived figures. Settings are written in full, so that they stay valid if defaults change."""
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


def _ratio(numerator: Row | None, denominator: Row) -> Spread | None:
    """One row's time over another's, by round, as far as both have rounds."""
    pairs = zip(numerator.seconds, denominator.seconds, strict=False) if numerator else ()
    return Spread.of([a / b for a, b in pairs if a is not None and b is not None])


def _finest_tokens(model: str, size: SizeResult) -> int:
    """The number of tokens at the model's finest self-attention level."""
    return plan(size.width, size.height, Settings(), model).levels[0].tokens


def _self_attention(split: Split, level: str) -> float:
    return split.levels[FINEST_LEVEL] if level == FINEST else split.kinds[SELF_ATTENTION]
