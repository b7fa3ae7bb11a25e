"""What a fidelity run found, its form in JSON, and what follows from it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import output
from benchmarks.environment import Environment
from benchmarks.fidelity.scores import Score
from benchmarks.method import DENSE
from benchmarks.tiny.sampler import Sampling

Size = tuple[int, int]

_RESAMPLES = 2000
_COLUMNS = ("mse", "psnr", "ssim", "detail", "seconds")


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % confidence interval, by bootstrap over images."""

    value: float
    low: float
    high: float

    def __format__(self, digits: str) -> str:
        return f"{self.value:{digits}} ({self.low:{digits}}–{self.high:{digits}})"


@dataclass(frozen=True)
class Result:
    """A run. `effective_keys` is the share of keys that count in dense attention, by size: see attention.py."""

    environment: Environment
    sampling: Sampling
    scores: tuple[Score, ...]
    effective_keys: dict[Size, float]

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
        return len({score.seed for score in self.scores})

    def of(self, method: str, size: Size | None = None) -> list[Score]:
        """A method's scores at one size or at all, in the order of size, prompt and seed: the same for every method."""
        chosen = (each for each in self.scores if each.method == method and size in (None, each.size))
        return sorted(chosen, key=lambda each: (each.size, each.prompt, each.seed))

    def mean(self, figure: Callable[[Score], float], method: str, size: Size | None = None) -> Interval:
        """The mean of a figure over a method's images, except those that lack it (NaN)."""
        figures = [figure(score) for score in self.of(method, size)]
        return _bootstrap([[each for each in figures if not np.isnan(each)]], np.mean)

    def ratio(self, method: str, other: str, size: Size | None = None) -> Interval:
        """The mean squared error of a method over another's, resampled in pairs."""
        errors = [[score.mse for score in self.of(each, size)] for each in (method, other)]
        return _bootstrap(errors, _ratio_of_means)

    def speedup(self, method: str, size: Size) -> float:
        """Dense time over a method's; the median over images, which share the time of their batch."""
        pairs = zip(self.of(DENSE, size), self.of(method, size), strict=True)
        return float(np.median([dense.seconds / own.seconds for dense, own in pairs]))


def _ratio_of_means(above: Any, below: Any, axis: int = -1) -> Any:
    return above.mean(axis) / below.mean(axis)


def _bootstrap(values: Sequence[Sequence[float]], statistic: Callable[..., Any]) -> Interval:
    from scipy.stats import bootstrap

    columns = tuple(np.asarray(column, dtype=float) for column in values)
    found = float(statistic(*columns))
    if len(columns[0]) < 2 or not np.isfinite(found):
        return Interval(found, found, found)
    spread = bootstrap(
        columns, statistic, paired=True, vectorized=True, n_resamples=_RESAMPLES, method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    return Interval(found, float(spread.low), float(spread.high))


def write(found: Sequence[Result], path: Path) -> None:
    """A file of runs, each in columns: for each size and method a list of each figure, by prompt and seed."""
    text = json.dumps([_values(result) for result in found], ensure_ascii=False, indent=1)
    output.write_text(_joined(text) + "\n", path)


def read(path: Path) -> list[Result]:
    """The results that `write` was given, figures to four digits."""
    return [_result(values) for values in output.read_json(path)]


def _values(result: Result) -> dict[str, Any]:
    return {
        "environment": asdict(result.environment),
        "sampling": asdict(result.sampling),
        "sizes": [
            {
                "size": list(size),
                "effective_keys": result.effective_keys[size],
                "images": [[score.prompt, score.seed] for score in result.of(DENSE, size)],
                "methods": {method: _columns(result.of(method, size)) for method in result.methods},
            }
            for size in result.sizes
        ],
    }


def _result(values: dict[str, Any]) -> Result:
    scores = [score for size in values["sizes"] for score in _scores(size)]
    effective_keys = {_size(size): size["effective_keys"] for size in values["sizes"]}
    return Result(Environment(**values["environment"]), Sampling(**values["sampling"]), tuple(scores), effective_keys)


def _columns(scores: Sequence[Score]) -> dict[str, list[float | None]]:
    columns = {name: [_rounded(getattr(score, name)) for score in scores] for name in _COLUMNS}
    # Single calls are compared in some images only; the others have null.
    none = (None,) * max((len(score.errors) for score in scores), default=0)
    errors = zip(*(score.errors or none for score in scores), strict=True)
    return columns | {f"error {index}": list(map(_rounded, column)) for index, column in enumerate(errors)}


def _scores(size: dict[str, Any]) -> list[Score]:
    found = []
    for method, columns in size["methods"].items():
        errors = [columns[name] for name in columns if name.startswith("error ")]
        for index, (prompt, seed) in enumerate(size["images"]):
            figures = {name: columns[name][index] for name in _COLUMNS}
            each = tuple(column[index] for column in errors)
            found.append(Score(method, prompt, seed, _size(size), errors=() if None in each else each, **figures))
    return found


def _size(values: dict[str, Any]) -> Size:
    height, width = values["size"]
    return height, width


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _joined(text: str) -> str:
    """JSON with its innermost lists on one line each."""
    return re.sub(r"\[[^\[\]{}]*\]", lambda found: " ".join(found.group().split()), text)
