"""Where sampling stands, for each thread: set by `Patch.at`, or learned from a pipeline's scheduler or the timestep."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .schedule import Moment

_TRAINING_TIMESTEPS = 1000


class Progress:
    """The point of sampling.

    Args:
        scheduler: returns the scheduler of the pipeline that samples, or None. It may change between calls.
    """

    def __init__(self, scheduler: Callable[[], Any]):
        self._scheduler = scheduler
        self._own = _Thread()
        self._latest = Moment()
        self._is_set = False

    @property
    def moment(self) -> Moment:
        """The point of sampling of this thread. A thread that has not set one shares the latest of any thread."""
        return self._own.moment or self._latest

    def set(self, moment: Moment) -> None:
        """Sets it. From then on nothing is found out from schedulers and timesteps."""
        self._is_set = True
        self._own.moment = self._latest = moment

    def follow(self, timestep: Any) -> None:
        """Finds it out before a call of the network.

        Args:
            timestep: the network's argument: a number, or a tensor () or (batch,).
        """
        if self._is_set or timestep is None or getattr(timestep, "ndim", 0) > 1:
            return
        if isinstance(timestep, Tensor) and type(timestep) is not Tensor:
            return  # a fake tensor has no value
        scheduler = self._scheduler()
        if getattr(scheduler, "timesteps", None) is not None:
            self._own.moment = self._own.run.moment(scheduler, timestep)
        else:
            self._own.moment = self._own.fall.moment(timestep)
        self._latest = self._own.moment


class _Thread(threading.local):
    """What one thread knows."""

    def __init__(self) -> None:
        self.moment: Moment | None = None
        self.run = _Run()
        self.fall = _Fall()


class _Run:
    """Follows one run after the other of a pipeline with a scheduler of diffusers.

    Schedulers make a new tensor of timesteps for each run. Most count their steps in `step_index`, and know from
    `begin_index` where image-to-image begins; PNDM counts in `counter`; for the others, such as DDIM, the timestep is
    looked up among the timesteps, which waits for the device.

    Source: diffusers, src/diffusers/schedulers.
    """

    def __init__(self) -> None:
        self._timesteps: Any = None
        self._begin = 0
        self._index = 0

    def moment(self, scheduler: Any, timestep: Any) -> Moment:
        timesteps = scheduler.timesteps
        is_new = timesteps is not self._timesteps
        index = self._position(scheduler, timestep, is_new)
        if is_new or index < self._index:
            begin = getattr(scheduler, "begin_index", None)
            self._timesteps, self._begin = timesteps, index if begin is None else begin
        self._index = index
        step, steps = index - self._begin, len(timesteps) - self._begin
        return Moment(min(max(step / steps, 0.0), 1.0) if steps > 0 else 0.0, max(step, 0))

    def _position(self, scheduler: Any, timestep: Any, is_new: bool) -> int:
        """The position of the present call among the timesteps."""
        index = getattr(scheduler, "step_index", None)
        if index is not None:
            return int(index)
        counter = getattr(scheduler, "counter", None)
        if isinstance(counter, int) and not is_new and counter:
            return self._begin + counter
        begin = getattr(scheduler, "begin_index", None)
        if begin is not None:
            return int(begin)
        return _position_of(timestep, scheduler.timesteps)


def _position_of(timestep: Any, timesteps: Any) -> int:
    """Where a timestep stands among a run's, or the nearest one. Waits for the device."""
    distances = torch.as_tensor(timesteps).float().cpu() - float(torch.as_tensor(timestep).float().max())
    return int(distances.abs().argmin())


class _Fall:
    """Follows the timestep of a network without a pipeline: it falls from step to step, and rises when a run begins."""

    def __init__(self) -> None:
        self._timestep: float | None = None
        self._step = 0

    def moment(self, timestep: Any) -> Moment:
        now = float(torch.as_tensor(timestep).float().max())
        if self._timestep is None or now > self._timestep:
            self._step = 0
        elif now < self._timestep:
            self._step += 1
        self._timestep = now
        return Moment(min(max(1.0 - now / _TRAINING_TIMESTEPS, 0.0), 1.0), self._step)
