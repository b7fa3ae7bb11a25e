"""Where sampling stands: told by `Patch.at`, or recognised by the timesteps of the calls."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .compiled import PerThread, constant, is_compiling
from .downsample import compiled_index, kept_index
from .schedule import Moment, factor_within, why_off
from .settings import Settings

_BREAK = (
    "ToDo reads the timesteps of a model that nobody tells where sampling stands. Call patch.at(step, steps) before "
    "each step, the first one too, and the model compiles without a break."
)


class Now:
    """A point of sampling, as the hooks need it.

    Attributes:
        reason: why nothing is downsampled, whatever the level; '' if something may be.
        is_last: whether all steps are done.
    """

    def __init__(self, settings: Settings, moment: Moment, device: torch.device, is_last: bool = False):
        self.moment = moment
        self.reason = why_off(settings, moment)
        self.is_last = is_last
        self._settings = settings
        self._indices: dict[Any, tuple[Tensor | None, str]] = {}
        with torch.inference_mode(False):
            self._step = torch.full((), moment.step, device=device)

    def index(self, resolution: int, grid: tuple[int, int], features: Tensor) -> tuple[Tensor | None, str]:
        """The index (kept,) of the tokens that a level keeps, on the device of `features`, and ''; or None and why."""
        if is_compiling() or type(features) is not Tensor:  # what is made for a fake tensor must not be kept
            return self._make(resolution, grid, features)
        key = resolution, grid, features.device
        found = self._indices.get(key)
        if found is None:
            found = self._indices[key] = self._make(resolution, grid, features)
        return found

    def _make(self, resolution: int, grid: tuple[int, int], features: Tensor) -> tuple[Tensor | None, str]:
        settings = self._settings
        factor, reason = factor_within(settings, resolution, grid, self.moment)
        if reason:
            return None, reason
        moves = settings.phase == "cycle"
        if is_compiling():
            return compiled_index(grid, factor, settings.method, self._step if moves else None, features.device), ""
        index = kept_index(grid, factor, settings.method, self.moment.step if moves else None, features.device)
        mode = getattr(features, "fake_mode", None)
        return (mode.from_tensor(index) if mode else index), ""


class _Thread:
    """What one thread knows.

    Attributes:
        now: where its sampling stands.
        told: what it has told last.
        computes: whether it has called the network since. What it tells next is then for itself alone.
        position: of its last call among the scheduler's timesteps, since it told a step.
        timestep: of its last call.
    """

    def __init__(self) -> None:
        self.now: Now | None = None
        self.told: Now | None = None
        self.computes = False
        self.position: int | None = None
        self.timestep: Any = None
        self.run = _Run()


class Progress:
    """The point of sampling of each thread.

    Args:
        device: of the network.
        owner: returns the model that was patched, or None. A diffusers pipeline holds the scheduler that drives it.
    """

    untraced_follow: Any = None

    def __init__(self, settings: Settings, device: torch.device, owner: Callable[[], Any]):
        self._settings = settings
        self._device = device
        self._owner = owner
        self._matters = settings.phase == "cycle" or settings.taper or settings.start > 0 or settings.end < 1
        self._start = Now(settings, Moment(), device)
        self._told: Now | None = None  # the latest that a thread told for others
        self._threads = PerThread(_Thread)

    @property
    def now(self) -> Now:
        """The point of sampling of this thread."""
        return self._threads.own.now or self._told or self._start

    def tell(self, step: int, steps: int, hires: bool) -> None:
        """`Patch.at`."""
        step, steps = _whole("step", step), _whole("steps", steps)
        progress = min(max(step / steps, 0.0), 1.0) if steps > 0 else 0.0
        thread = self._threads.own
        thread.now = Now(self._settings, Moment(progress, step, hires), self._device, is_last=0 < steps <= step)
        thread.told = thread.now
        self._told = None if thread.computes else thread.now
        thread.computes, thread.position = False, None

    def enter(self, timestep: Any, sample: Tensor | None) -> None:
        """Before a call of a network: takes what was told, by this thread or another, or else follows the timestep.

        Args:
            timestep: the network's argument: a number, or a tensor () or (batch,).
            sample: the network's input.
        """
        thread = self._threads.own
        thread.computes = True
        if sample is not None:
            self._device = sample.device
        if not self._matters:
            return
        told = self._told or thread.told if thread.told is None or thread.told.is_last else thread.told
        if told is None or told.is_last or self._has_begun_anew(thread, timestep):
            if is_compiling():
                _let_compiled_code_follow()
                Progress.untraced_follow(self, thread, told, timestep)
            else:
                self._follow(thread, told, timestep)
        else:
            thread.now = told
        thread.timestep = timestep

    def _has_begun_anew(self, thread: _Thread, timestep: Any) -> bool:
        """Whether another run has begun since a step was told, as far as it shows without waiting for the device."""
        if is_compiling():
            return False
        places = (_place(timestep, each.timesteps) for each in _schedulers(self._owner()))
        before, thread.position = thread.position, next((each for each in places if each is not None), None)
        return before is not None and thread.position is not None and thread.position < before

    def _follow(self, thread: _Thread, told: Now | None, timestep: Any) -> None:
        is_fake = isinstance(timestep, Tensor) and type(timestep) is not Tensor
        if timestep is None or is_fake or getattr(timestep, "ndim", 0) > 1:
            return
        if told is not None:
            if told.is_last and thread.timestep is not None and _value(timestep) <= _value(thread.timestep):
                thread.now = told  # a sampler may make further calls after its last step
                return
            thread.told = self._told = None
        moment = thread.run.moment(timestep, self._owner())
        if thread.now is None or thread.now.moment != moment:
            thread.now = Now(self._settings, moment, self._device)


@constant
def _let_compiled_code_follow() -> None:
    """Makes `Progress.untraced_follow`, for which compiled code is left. Under `fullgraph` the error says why."""
    if Progress.untraced_follow is None:
        takes_reason = "reason" in inspect.signature(torch._dynamo.disable).parameters  # since torch 2.7
        reason = {"reason": _BREAK} if takes_reason else {}
        Progress.untraced_follow = staticmethod(torch._dynamo.disable(Progress._follow, **reason))


class _Run:
    """Follows one run after the other.

    A scheduler drives a run if the run's timesteps are the scheduler's, in their order: it tells where the run began
    and how many steps it has. Otherwise the timestep alone tells: it falls from 1000 to 0, or rises if the run is one
    backwards.

    Source: diffusers, src/diffusers/schedulers and the loops of src/diffusers/pipelines.
    """

    def __init__(self) -> None:
        self._places, self._values, self._times = _Order(), _Order(), _Order()
        self._timesteps: Any = None
        self._fits = True

    def moment(self, timestep: Any, owner: Any) -> Moment:
        schedulers = _schedulers(owner)
        for timesteps in (each.timesteps for each in schedulers):
            place = _place(timestep, timesteps)
            if place is not None:
                if timesteps is not self._timesteps:
                    self._timesteps, self._places = timesteps, _Order()
                return self._places.moment(place, len(timesteps), owner)
        value = _value(timestep)
        if self._times.enter(-value, value <= 10):
            self._values, self._fits = _Order(), True
        for scheduler in schedulers if self._fits else ():
            distinct = list(dict.fromkeys(torch.as_tensor(scheduler.timesteps).float().tolist()))
            place = self._values.nearest(value, distinct)
            if place is not None:
                return self._values.moment(place, len(distinct), owner)
        self._fits = False
        progress = value / 1000 if self._times.is_backwards else 1 - value / 1000
        return Moment(min(max(progress, 0.0), 1.0), self._times.step)


class _Order:
    """The positions of a run's calls. They rise from step to step, and where one falls, another run has begun: unless
    this one began at the last position, as a run backwards does, from the image to noise."""

    def __init__(self) -> None:
        self.begin = self.position = -1.0
        self.step = -1
        self.is_backwards = False

    def enter(self, position: float, is_last: bool) -> bool:
        """Adds a call; returns whether a run begins with it."""
        if self.step >= 0:
            if position == self.position:
                return False
            falls = position < self.position
            if falls == self.is_backwards or (self.step == 0 and not falls):
                self.is_backwards = falls
                self.position = position
                self.step += 1
                return False
        self.begin = self.position = position
        self.step, self.is_backwards = 0, is_last
        return True

    def moment(self, place: int, count: int, owner: Any) -> Moment:
        """The point of sampling of a call at a place among a scheduler's timesteps."""
        self.enter(place, place == count - 1)
        steps = self.begin + 1 if self.is_backwards else count - self.begin
        if getattr(owner, "denoising_end", None):  # SDXL's pipelines leave the last timesteps to the refiner
            steps = min(owner.num_timesteps, steps)
        step = abs(place - int(self.begin))
        return Moment(min(step / steps, 1.0), step)

    def nearest(self, value: float, values: list[float]) -> int | None:
        """The place of a value: anywhere before the first call, then here or beside; None if it is not there. It may
        have been rounded to half precision."""
        here = int(self.position)
        near = range(len(values)) if self.step < 0 else range(max(here - 1, 0), min(here + 2, len(values)))
        place = min(near, key=lambda each: abs(values[each] - value), default=None)
        return place if place is not None and abs(values[place] - value) <= 4e-3 * abs(value) else None


def _schedulers(owner: Any) -> list[Any]:
    """What may drive a model: all that a pipeline holds with timesteps."""
    held = vars(owner).values() if hasattr(owner, "__dict__") else ()
    return [each for each in held if getattr(each, "timesteps", None) is not None]


def _place(timestep: Any, timesteps: Any) -> int | None:
    """Where a timestep stands among a scheduler's if it is a view of them, as in the loops of diffusers. That costs no
    look at its value, which would wait for the device."""
    if type(timestep) is not Tensor or type(timesteps) is not Tensor:
        return None
    if timestep.untyped_storage().data_ptr() != timesteps.untyped_storage().data_ptr():
        return None
    return int(timestep.storage_offset() - timesteps.storage_offset())


def _value(timestep: Any) -> float:
    return float(torch.as_tensor(timestep).float().max())


def _whole(name: str, number: Any) -> int:
    try:
        return operator.index(number)
    except TypeError:
        raise TypeError(f"at: {name} must be a whole number, not {number!r}") from None
