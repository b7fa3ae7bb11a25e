"""How self-attention's time grows with the number of tokens: the exponent of a power law."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Growth:
    """seconds ≈ factor · tokens ** exponent, by least squares on the logarithms.

    Attributes:
        error: standard error of the exponent; None for two points, which a power law always fits exactly.
        tokens, seconds: the points.
    """

    exponent: float
    error: float | None
    factor: float
    tokens: tuple[int, ...]
    seconds: tuple[float, ...]

    def __str__(self) -> str:
        """The exponent with its standard error."""
        return f"{self.exponent:.2f}" + ("" if self.error is None else f" ± {self.error:.2f}")

    def at(self, tokens: float) -> float:
        """The fitted seconds."""
        return self.factor * tokens**self.exponent


def fit(tokens: Sequence[int], seconds: Sequence[float]) -> Growth | None:
    """Fits a power law; None without two different numbers of tokens."""
    if len(set(tokens)) < 2:
        return None
    x, y = list(map(math.log, tokens)), list(map(math.log, seconds))
    count = len(x)
    mean_x, mean_y = sum(x) / count, sum(y) / count
    variation = sum((a - mean_x) ** 2 for a in x)
    exponent = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / variation
    intercept = mean_y - exponent * mean_x
    residuals = sum((b - intercept - exponent * a) ** 2 for a, b in zip(x, y, strict=True))
    error = math.sqrt(residuals / (count - 2) / variation) if count > 2 else None
    return Growth(exponent, error, math.exp(intercept), tuple(tokens), tuple(seconds))
