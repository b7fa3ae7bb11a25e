"""The results of fidelity runs: what made them, statistics, and reading and writing as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from math import isnan, nan
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import output
from benchmarks.environment import Environment
from benchmarks.fidelity.methods import METHODS, Layout, picks
from benchmarks.fidelity.scores import Score
from benchmarks.method import DENSE, StaleError
from benchmarks.sampling import Sampling

Size = tuple[int, int]
"""Height and width of an image in pixels."""


_SET = 8
"""Images of another set."""

_FIGURES = [each.name for each in fields(Score) if each.type == "float"]


@dataclass(frozen=True)
class Interval:
    """A figure of all images, and the interval in which that of another set of eight images is expected.

    It is a prediction interval of 95 % by Student's t for the logarithm, whose spread is the images' spread around the
    figure. Errors of images are skewed, so that about nine of ten sets fall inside rather than 95 of 100.
    """

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
        model: the checkpoint's name; '' for the embedded model.
        layouts: where the UNet has self-attention, by size.
    """

    environment: Environment
    model: str
    sampling: Sampling
    layouts: dict[Size, Layout] = field(default_factory=dict)
    scores: tuple[Score, ...] = ()

    def including(self, score: Score, layout: Layout) -> Result:
        """The run with one more image."""
        return replace(self, scores=(*self.scores, score), layouts={**self.layouts, score.size: layout})

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
        """A method's scores at one size or at all, sorted by size, prompt and seed, so that methods can be paired.

        Those of ToDo are found by the tokens that it keeps now, whatever the method was called when it was measured.

        Raises:
            StaleError: none was measured that keeps the same tokens.
        """
        scores = [score for each in ([size] if size else self.sizes) for score in self._at(method, each)]
        return sorted(scores, key=lambda score: (score.size, score.prompt, score.seed))

    def _at(self, method: str, size: Size) -> list[Score]:
        now = self._picks(method, size)
        found = [score for score in self.scores if score.size == size and now in ("", score.picks)]
        if now and not found:
            height, width = size
            raise StaleError(
                f"{method}, {width}×{height}, {self.sampling}: ToDo {self.environment.versions['todo']} measured no "
                "image with the tokens that it keeps now; measure again"
            )
        name = method if any(score.method == method for score in found) or not now else found[0].method
        return [score for score in found if score.method == name]

    def has(self, method: str, size: Size) -> bool:
        """Whether a method was measured at a size, under that name or another."""
        now = self._picks(method, size)
        return any(
            score.size == size and (score.method == method or (now and score.picks == now)) for score in self.scores
        )

    def _picks(self, method: str, size: Size) -> str:
        return picks(METHODS[method], self.layouts[size], self.sampling.steps) if method in METHODS else ""

    def effective_keys(self, size: Size) -> float:
        """The effective share of keys in dense attention, the mean over prompts; NaN if it could not be measured."""
        return self.mean(lambda score: score.effective_keys, DENSE, size).value

    def mean(self, figure: Callable[[Score], float], method: str, size: Size | None = None) -> Interval:
        """The mean of a figure over a method's images. Images without it (NaN) are left out."""
        figures = [figure(score) for score in self.of(method, size)]
        return _interval([[value for value in figures if not isnan(value)]])

    def ratio(
        self,
        method: str,
        other: str,
        size: Size | None = None,
        figure: Callable[[Score], float] = lambda score: score.mse,
    ) -> Interval:
        """A method's mean squared error, or another figure, over another method's, drawn in pairs. Images without
        either are left out."""
        pairs = zip(self.of(method, size), self.of(other, size), strict=True)
        errors = [pair for one, two in pairs if not np.isnan(pair := (figure(one), figure(two))).any()]
        return _interval(list(zip(*errors, strict=True)) or [[], []])

    def speedup(self, method: str, size: Size) -> float:
        """Dense time over a method's: the median over images; NaN if there is no image with both."""
        pairs = zip(self.of(DENSE, size), self.of(method, size), strict=True)
        ratios = [ratio for dense, score in pairs if not isnan(ratio := dense.seconds / score.seconds)]
        return float(np.median(ratios)) if ratios else nan

    def changes(self, method: str, size: Size) -> bool:
        """Whether a method changes any of its images."""
        return any(score.mse != 0 for score in self.of(method, size))

    def fits(self, method: str, size: Size) -> bool:
        """Whether all of a method's images fitted in memory."""
        return not any(isnan(score.seconds) for score in self.of(method, size))


def _interval(columns: Sequence[Sequence[float]]) -> Interval:
    """Of the mean of a column, or of one column's mean over another's."""
    from scipy.stats import t as student

    values = np.asarray(columns, dtype=float)
    count = values.shape[1]
    if not count:
        return Interval(nan, nan, nan)
    means = values.mean(1)
    value = float(means[0] / means[1] if len(means) == 2 else means[0])
    if count < 2 or not np.isfinite(value) or not means.all():
        return Interval(value, value, value)
    # The logarithm's first order: how far each image is from the mean, as a share of it.
    apart = values / means[:, None]
    spread = (apart[0] - apart[1] if len(means) == 2 else apart[0]).std(ddof=1)
    half = float(student.ppf(0.975, count - 1) * spread * np.sqrt(1 / _SET + 1 / count))
    return Interval(value, value * np.exp(-half), value * np.exp(half))


def write(results: Sequence[Result], path: Path) -> None:
    """Writes runs as JSON, in columns: for each size and method, a list of each figure by image."""
    text = json.dumps([_to_json(result) for result in results], ensure_ascii=False, indent=1)
    output.write_text(re.sub(r"\[[^\[\]{}]*\]", lambda match: " ".join(match.group().split()), text) + "\n", path)


def read(path: Path) -> list[Result]:
    """The runs that `write` wrote, with figures rounded to four significant digits."""
    return [_from_json(values) for values in output.read_json(path)]


def _to_json(result: Result) -> dict[str, Any]:
    return {
        "model": result.model,
        "environment": asdict(result.environment),
        "sampling": asdict(result.sampling),
        "sizes": [
            {
                "size": size,
                **result.layouts[size]._asdict(),
                "methods": [
                    _columns(scores)
                    for method in result.methods
                    if (scores := [each for each in result.scores if (each.method, each.size) == (method, size)])
                ],
            }
            for size in result.sizes
        ],
    }


def _columns(scores: Sequence[Score]) -> dict[str, Any]:
    """The scores of a method at a size. A figure that no image has takes no column."""
    columns = {name: [_rounded(getattr(score, name)) for score in scores] for name in _FIGURES}
    known = {name: column for name, column in columns.items() if any(value is not None for value in column)}
    first = {name: getattr(scores[0], name) for name in ("method", "kept", "picks")}
    return first | {name: [getattr(score, name) for score in scores] for name in ("prompt", "seed")} | known


def _from_json(values: dict[str, Any]) -> Result:
    layouts, scores = {}, []
    for each in values["sizes"]:
        height, width = each["size"]
        layouts[height, width] = Layout(tuple(each["latent"]), tuple(each["depths"]))
        for columns in each["methods"]:
            what: dict[str, Any] = {"size": (height, width), "kept": tuple(columns.pop("kept"))}
            what |= {name: columns.pop(name) for name in ("method", "picks")}
            for row in zip(*columns.values(), strict=True):
                figures: dict[str, Any] = {
                    name: nan if value is None else value for name, value in zip(columns, row, strict=True)
                }
                scores.append(Score(**what, **figures))
    return Result(
        Environment(**values["environment"]), values["model"], Sampling(**values["sampling"]),
        layouts, tuple(scores),
    )  # fmt: skip


def _rounded(value: float) -> float | None:
    """Four significant digits; None for NaN, which JSON lacks."""
    return None if isnan(value) else float(f"{value:.4g}")
