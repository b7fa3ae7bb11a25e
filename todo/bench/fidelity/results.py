"""What a fidelity run found, its form in JSON, and what follows from it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from todo.bench.environment import Environment
from todo.bench.fidelity.measure import Sample
from todo.bench.fidelity.methods import DENSE
from todo.bench.painter.sampler import Sampling

Size = tuple[int, int]

_RESAMPLES = 2000
_COLUMNS = ("mse", "psnr", "ssim", "detail", "seconds")


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % confidence interval, by bootstrap over pictures."""

    value: float
    low: float
    high: float

    def __format__(self, digits: str) -> str:
        return f"{self.value:{digits}} ({self.low:{digits}}–{self.high:{digits}})"


@dataclass(frozen=True)
class Result:
    """A run. `peaked` is the share of keys that count in dense attention, by size: see peaked.py."""

    environment: Environment
    sampling: Sampling
    samples: tuple[Sample, ...]
    peaked: dict[Size, float]

    @property
    def sizes(self) -> list[Size]:
        return sorted({sample.size for sample in self.samples})

    @property
    def methods(self) -> list[str]:
        return list(dict.fromkeys(sample.method for sample in self.samples))

    @property
    def prompts(self) -> list[str]:
        return list(dict.fromkeys(sample.prompt for sample in self.samples))

    @property
    def seeds(self) -> int:
        return len({sample.seed for sample in self.samples})

    def of(self, method: str, size: Size | None = None) -> list[Sample]:
        """A method's pictures, in the order of size, prompt and seed, the same for every method; of all sizes, unless
        told one."""
        chosen = (each for each in self.samples if each.method == method and size in (None, each.size))
        return sorted(chosen, key=lambda each: (each.size, each.prompt, each.seed))

    def mean(self, figure: Callable[[Sample], float], method: str, size: Size | None = None) -> Interval:
        """The mean of a figure over a method's pictures, but those that lack it (NaN)."""
        figures = [figure(sample) for sample in self.of(method, size)]
        return _bootstrap([[each for each in figures if not np.isnan(each)]], np.mean)

    def ratio(self, method: str, other: str, size: Size | None = None) -> Interval:
        """The mean squared error of a method over another's, resampled in pairs."""
        errors = [[sample.mse for sample in self.of(each, size)] for each in (method, other)]
        return _bootstrap(errors, _ratio_of_means)

    def speedup(self, method: str, size: Size) -> float:
        """Dense time over a method's; the median over pictures of one prompt drawn together."""
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
    path.write_text(_joined(text) + "\n", encoding="utf8")


def read(path: Path) -> list[Result]:
    """The results that `write` was given, figures to four digits."""
    return [_result(values) for values in json.loads(path.read_text(encoding="utf8"))]


def _values(result: Result) -> dict[str, Any]:
    return {
        "environment": asdict(result.environment),
        "sampling": asdict(result.sampling),
        "sizes": [
            {
                "size": list(size),
                "peaked": result.peaked[size],
                "pictures": [[sample.prompt, sample.seed] for sample in result.of(DENSE, size)],
                "methods": {method: _columns(result.of(method, size)) for method in result.methods},
            }
            for size in result.sizes
        ],
    }


def _result(values: dict[str, Any]) -> Result:
    samples = [sample for size in values["sizes"] for sample in _samples(size)]
    peaked = {_size(size): size["peaked"] for size in values["sizes"]}
    return Result(Environment(**values["environment"]), Sampling(**values["sampling"]), tuple(samples), peaked)


def _columns(samples: Sequence[Sample]) -> dict[str, list[float | None]]:
    columns = {name: [_rounded(getattr(sample, name)) for sample in samples] for name in _COLUMNS}
    # Single calls are compared in some pictures only; the others have null.
    none = (None,) * max((len(sample.errors) for sample in samples), default=0)
    errors = zip(*(sample.errors or none for sample in samples), strict=True)
    return columns | {f"error {index}": list(map(_rounded, column)) for index, column in enumerate(errors)}


def _samples(size: dict[str, Any]) -> list[Sample]:
    found = []
    for method, columns in size["methods"].items():
        errors = [columns[name] for name in columns if name.startswith("error ")]
        for index, (prompt, seed) in enumerate(size["pictures"]):
            figures = {name: columns[name][index] for name in _COLUMNS}
            each = tuple(column[index] for column in errors)
            found.append(Sample(method, prompt, seed, _size(size), errors=() if None in each else each, **figures))
    return found


def _size(values: dict[str, Any]) -> Size:
    height, width = values["size"]
    return height, width


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _joined(text: str) -> str:
    """JSON with its innermost lists on one line each."""
    return re.sub(r"\[[^\[\]{}]*\]", lambda found: " ".join(found.group().split()), text)
