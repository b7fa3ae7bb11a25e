"""One level of a network: what all its transformers decide alike, once for each step and grid."""

from __future__ import annotations

from torch import Tensor

from .downsample import GATHERS, downsample, indices, kept_tokens
from .hook import Grid
from .progress import Progress
from .report import Counts
from .schedule import Moment, factor_at, phase_step
from .settings import Settings


class Decision:
    """Whether and how a grid is downsampled at a point of sampling.

    Attributes:
        grid: (h, w).
        reason: why it is left whole; '' if it is downsampled.
        tokens, kept: tokens of the grid before and after downsampling.
    """

    __slots__ = ("_factor", "_index", "_method", "_selects", "_step", "grid", "kept", "moment", "reason", "tokens")

    def __init__(self, settings: Settings, resolution: int, grid: Grid, moment: Moment):
        self.grid = grid
        self.moment = moment
        self._factor, self.reason = factor_at(settings, resolution, grid, moment)
        self._method = settings.method
        self._selects = settings.method in GATHERS
        self._step = phase_step(settings, moment)
        self._index: Tensor | None = None
        self.tokens = grid[0] * grid[1]
        self.kept = self.tokens if self.reason else kept_tokens(grid, self._factor)

    def downsampled(self, tokens: Tensor) -> Tensor:
        """The kept tokens of one or more grids, (batch, m·h·w, channels)."""
        # An index of a fake tensor or another subclass must not be kept.
        if not self._selects or tokens.size(1) != self.tokens or type(tokens) is not Tensor:
            return downsample(tokens, self.grid, self._factor, self._method, self._step)
        index = self._index
        if index is None or index.device != tokens.device:
            index = self._index = indices(tokens, self.grid, self._factor, self._method, self._step)
        return tokens.index_select(1, index)


class Level:
    """One level of a network.

    Attributes:
        resolution: 1 for the model's finest self-attention level, 2 for the level at half that size, and so on.
        counts: of its calls while it has nothing to do, when its transformers carry no hook that could count them.
    """

    def __init__(self, settings: Settings, resolution: int, progress: Progress):
        self._settings = settings
        self.resolution = resolution
        self._progress = progress
        self._latest: Decision | None = None
        self.counts = Counts(0)

    def decide(self, grid: Grid) -> Decision:
        """The decision for a grid at the present point of sampling."""
        moment = self._progress.moment
        latest = self._latest
        if latest is None or latest.moment is not moment or latest.grid != grid:
            latest = self._latest = Decision(self._settings, self.resolution, grid, moment)
        return latest

    def forget(self) -> None:
        """Releases what is kept for the next call."""
        self._latest = None
