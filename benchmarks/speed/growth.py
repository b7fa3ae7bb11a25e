"""How self-attention's time grows with the number of tokens: the exponent of a power law."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Growth:
    """seconds ≈ factor · tokens ** exponent, by least squares of the logarithms. `error` is the exponent's standard
    error, None for two points, which a power law always meets."""

    exponent: float
    error: float | None
    factor: float
    tokens: tuple[int, ...]
    seconds: tuple[float, ...]

    def __str__(self) -> str:
        """The exponent, with its error."""
        return f"{self.exponent:.2f}" + ("" if self.error is None else f" ± {self.error:.2f}")

    def at(self, tokens: float) -> float:
        """The fitted seconds."""
        return self.factor * tokens**self.exponent


def fit(tokens: Sequence[int], seconds: Sequence[float]) -> Growth | None:
    """The power law through points; None if there are not two different numbers of tokens."""
    if len(set(tokens)) < 2:
        return None
    x, y = [math.log(each) for each in tokens], [math.log(each) for each in seconds]
    count = len(x)
    mean_x, mean_y = sum(x) / count, sum(y) / count
    spread = sum((each - mean_x) ** 2 for each in x)
    exponent = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread
    offset = mean_y - exponent * mean_x
    missed = sum((b - offset - exponent * a) ** 2 for a, b in zip(x, y, strict=True))
    error = math.sqrt(missed / (count - 2) / spread) if count > 2 else None
    return Growth(exponent, error, math.exp(offset), tuple(tokens), tuple(seconds))
