"""The results of a fidelity run: statistics, and reading and writing as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import nan
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import output
from benchmarks.environment import Environment
from benchmarks.fidelity.scores import Score
from benchmarks.method import DENSE
from benchmarks.sampling import Sampling

Size = tuple[int, int]
"""Height and width of an image in pixels."""

_RESAMPLES = 2000
_COLUMNS = ("mse", "psnr", "ssim", "detail", "seconds")
_OPTIONAL_COLUMNS = ("high_pass", "lpips", "flip", "shared")
"""Not written where no image has them."""


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % confidence interval, by bootstrap over images."""

    value: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        """Formats each of the three numbers by `spec`; an unknown figure is ''."""
        if np.isnan(self.value):
            return ""
        return f"{self.value:{spec}} ({self.low:{spec}}–{self.high:{spec}})"


@dataclass(frozen=True)
class Result:
    """A run.

    Attributes:
        effective_keys: by size, the effective share of keys in dense attention, as `attention.effective_share` defines
            it; NaN if it could not be measured.
        model: the checkpoint's name; '' for the embedded model.
    """

    environment: Environment
    sampling: Sampling
    scores: tuple[Score, ...]
    effective_keys: dict[Size, float]
    model: str = ""

    @property
    def sizes(self) -> list[Size]:
        return sorted({score.size for score in self.scores})

    @property
    def methods(self) -> list[str]:
        return list(dict.fromkeys(score.method for score in self.scores))

    @property
    def prompts(self) -> list[str]:
        return list(dict.fromkeys(score.prompt for score in self.scores))

    @property
    def seeds(self) -> int:
        """The number of seeds."""
        return len({score.seed for score in self.scores})

    def of(self, method: str, size: Size | None = None) -> list[Score]:
        """A method's scores at one size or at all, sorted by size, prompt and seed, so that methods can be paired."""
        scores = (score for score in self.scores if score.method == method and size in (None, score.size))
        return sorted(scores, key=lambda score: (score.size, score.prompt, score.seed))

    def mean(self, figure: Callable[[Score], float], method: str, size: Size | None = None) -> Interval:
        """The mean of a figure over a method's images. Images without it (NaN) are left out."""
        figures = [figure(score) for score in self.of(method, size)]
        return _bootstrap([[value for value in figures if not np.isnan(value)]], np.mean)

    def ratio(
        self,
        method: str,
        other: str,
        size: Size | None = None,
        figure: Callable[[Score], float] = lambda score: score.mse,
    ) -> Interval:
        """A method's mean squared error, or another figure, over another method's, resampled in pairs. Images without
        either are left out."""
        pairs = zip(self.of(method, size), self.of(other, size), strict=True)
        errors = [pair for one, two in pairs if not np.isnan(pair := (figure(one), figure(two))).any()]
        return _bootstrap(list(zip(*errors, strict=True)) or [[], []], _ratio_of_means)

    def speedup(self, method: str, size: Size) -> float:
        """Dense time over a method's: the median over images; NaN if there is no image with both. The images of a batch
        share its time equally."""
        pairs = zip(self.of(DENSE, size), self.of(method, size), strict=True)
        ratios = [ratio for dense, score in pairs if not np.isnan(ratio := dense.seconds / score.seconds)]
        return float(np.median(ratios)) if ratios else nan

    def changes(self, method: str, size: Size) -> bool:
        """Whether a method changes any of its images."""
        return any(score.mse != 0 for score in self.of(method, size))

    def fits(self, method: str, size: Size) -> bool:
        """Whether all of a method's images fitted in memory."""
        return not any(np.isnan(score.seconds) for score in self.of(method, size))


def _ratio_of_means(numerators: Any, denominators: Any, axis: int = -1) -> Any:
    return numerators.mean(axis) / denominators.mean(axis)


def _bootstrap(values: Sequence[Sequence[float]], statistic: Callable[..., Any]) -> Interval:
    from scipy.stats import bootstrap

    columns = tuple(np.asarray(column, dtype=float) for column in values)
    if not len(columns[0]):
        return Interval(nan, nan, nan)
    value = float(statistic(*columns))
    if len(columns[0]) < 2 or not np.isfinite(value):
        return Interval(value, value, value)
    interval = bootstrap(
        columns, statistic, paired=True, vectorized=True, n_resamples=_RESAMPLES, method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    return Interval(value, float(interval.low), float(interval.high))


def write(results: Sequence[Result], path: Path) -> None:
    """Writes runs as JSON, in columns: for each size and method, a list of each figure by prompt and seed."""
    text = json.dumps([_to_json(result) for result in results], ensure_ascii=False, indent=1)
    output.write_text(_compact(text) + "\n", path)


def read(path: Path) -> list[Result]:
    """The runs that `write` wrote, with figures rounded to four significant digits."""
    return [_from_json(values) for values in output.read_json(path)]


def _to_json(result: Result) -> dict[str, Any]:
    return {
        "environment": asdict(result.environment),
        "model": result.model,
        "sampling": asdict(result.sampling),
        "sizes": [
            {
                "size": list(size),
                "effective_keys": _known(result.effective_keys[size]),
                "images": [[score.prompt, score.seed] for score in result.of(DENSE, size)],
                "methods": {method: _columns(result.of(method, size)) for method in result.methods},
            }
            for size in result.sizes
        ],
    }


def _from_json(values: dict[str, Any]) -> Result:
    scores = [score for size in values["sizes"] for score in _scores(size)]
    effective_keys = {_size(size): _figure(size["effective_keys"]) for size in values["sizes"]}
    environment, sampling = Environment(**values["environment"]), Sampling(**values["sampling"])
    return Result(environment, sampling, tuple(scores), effective_keys, values.get("model", ""))


def _columns(scores: Sequence[Score]) -> dict[str, list[float | None]]:
    columns = {name: [_rounded(getattr(score, name)) for score in scores] for name in _COLUMNS + _OPTIONAL_COLUMNS}
    columns = {name: column for name, column in columns.items() if name in _COLUMNS or any(map(_is_known, column))}
    # Single calls are compared in some images only; the others get null.
    missing = (None,) * max((len(score.errors) for score in scores), default=0)
    errors = zip(*(score.errors or missing for score in scores), strict=True)
    return columns | {f"error {index}": list(map(_rounded, column)) for index, column in enumerate(errors)}


def _scores(size: dict[str, Any]) -> list[Score]:
    scores = []
    for method, columns in size["methods"].items():
        error_columns = [columns[name] for name in columns if name.startswith("error ")]
        for index, (prompt, seed) in enumerate(size["images"]):
            named = (*_COLUMNS, *(name for name in _OPTIONAL_COLUMNS if name in columns))
            figures = {name: _figure(columns[name][index]) for name in named}
            errors = tuple(column[index] for column in error_columns)
            scores.append(Score(method, prompt, seed, _size(size), errors=() if None in errors else errors, **figures))
    return scores


def _size(values: dict[str, Any]) -> Size:
    height, width = values["size"]
    return height, width


def _rounded(value: float | None) -> float | None:
    """Four significant digits; None for NaN, which JSON lacks, and for None."""
    return None if value is None or np.isnan(value) else float(f"{value:.4g}")


def _is_known(value: float | None) -> bool:
    return value is not None


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def _figure(value: float | None) -> float:
    return nan if value is None else value


def _compact(text: str) -> str:
    """Indented JSON with each innermost list on one line."""
    return re.sub(r"\[[^\[\]{}]*\]", lambda match: " ".join(match.group().split()), text)
