"""The clock of a run: the seconds that its sampling takes, and how far it came."""

from __future__ import annotations

import time
import weakref
from typing import Any

from .. import host, runs

CLOCK = "todo_clock"
"""The attribute of `p` that holds its Clock."""


class Clock:
    """What is recorded during one run of a comparison.

    Attributes:
        owner: a weak reference to the `p` of the run. Copies of it have the clock, too, but do not count.
        first: whether it is the run with the page's settings.
        seconds: time of sampling.
        batches: how many batches are complete. None counts after the user has skipped one.
        ended: how the user ended the run, as in `host.ended`.
    """

    def __init__(self, p: Any, first: bool) -> None:
        self.owner = weakref.ref(p)
        self.first = first
        self.seconds = 0.0
        self.batches = 0
        self.ended = ""
        self._since: float | None = None

    def start(self) -> None:
        """Before a denoiser call. Overwrites the start of a call that failed."""
        runs.wait_for_device()
        self._since = time.perf_counter()

    def stop(self) -> None:
        """After a denoiser call."""
        if self._since is not None:
            runs.wait_for_device()
            self.seconds += time.perf_counter() - self._since
            self._since = None

    def end_batch(self) -> None:
        """After a batch."""
        self.end()
        self.batches += not self.ended

    def end(self) -> None:
        """After the run. Not every host tells scripts of a batch that was interrupted."""
        self.ended = self.ended or host.ended()
