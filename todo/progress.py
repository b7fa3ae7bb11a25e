"""Where sampling stands: told by `Patch.at`, or recognised by the timesteps of the calls."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from .compiled import PerThread, constant, is_compiling
from .downsample import compiled_index, kept_index
from .schedule import Moment, are_few, factor_within, phase_step, why_off
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

    def __init__(self, settings: Settings, moment: Moment, device: torch.device):
        self.moment = moment
        self.reason = why_off(settings, moment)
        self.is_last = moment.progress == 1
        self._settings = settings
        self._indices: dict[Any, tuple[Tensor | None, str]] = {}
        self._step = phase_step(settings, moment)
        with torch.inference_mode(False):
            self._step_of_compiled = None if self._step is None else torch.full((), self._step, device=device)

    def index(self, resolution: int, grid: tuple[int, int], features: Tensor) -> tuple[Tensor | None, str]:
        """The index (kept,) of the tokens that a level keeps, on the device of `features`, and ''; or None and why."""
        if is_compiling():
            return self._make(resolution, grid, features.device)
        key = resolution, grid, features.device
        if key not in self._indices:
            self._indices[key] = self._make(*key)
        index, reason = self._indices[key]
        mode = getattr(features, "fake_mode", None)  # fake tensors go with no others
        return (mode.from_tensor(index) if mode and index is not None else index), reason

    def _make(self, resolution: int, grid: tuple[int, int], device: torch.device) -> tuple[Tensor | None, str]:
        factor, reason = factor_within(self._settings, resolution, grid, self.moment)
        if reason:
            return None, reason
        if is_compiling():
            return compiled_index(grid, factor, self._settings.method, self._step_of_compiled, device), ""
        return kept_index(grid, factor, self._settings.method, self._step, device), ""


class _Thread:
    """What one thread knows.

    Attributes:
        now: where its sampling stands.
        told: what it has told last.
        computes: whether it has called the network since. What it tells next is then for itself alone.
        timestep, place: of its last call; the place is among a scheduler's timesteps.
    """

    def __init__(self) -> None:
        self.now: Now | None = None
        self.told: Now | None = None
        self.computes = False
        self.timestep: Any = None
        self.place: int | None = None
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
        thread.now = thread.told = Now(self._settings, Moment(progress, step, hires, are_few(steps)), self._device)
        self._told = None if thread.computes else thread.told
        thread.computes, thread.place = False, None

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
        if not is_compiling():
            self._follow(thread, told, timestep)
        elif told is None or told.is_last:
            _let_compiled_code_follow()
            Progress.untraced_follow(self, thread, told, timestep)
        else:
            thread.now = told
        thread.timestep = timestep

    def _follow(self, thread: _Thread, told: Now | None, timestep: Any) -> None:
        owner = self._owner()
        before, thread.place = thread.place, _place(timestep, owner)[0]
        goes_on = before is None or thread.place is None or thread.place >= before
        if told is not None and goes_on and (not told.is_last or _falls(timestep, thread.timestep)):
            thread.now = told
        elif _is_readable(timestep):
            thread.told = self._told = None
            moment = thread.run.moment(timestep, owner)
            if thread.now is None or thread.now.moment != moment:
                thread.now = Now(self._settings, moment, self._device)


@constant
def _let_compiled_code_follow() -> None:
    """Makes `Progress.untraced_follow`, for which compiled code is left. Under `fullgraph` the error says why."""
    if Progress.untraced_follow is None:
        Progress.untraced_follow = staticmethod(torch._dynamo.disable(Progress._follow, reason=_BREAK))


class _Run:
    """Follows one run after the other, by positions that rise from step to step. Where one falls, another run has
    begun: unless this one began at the last position, as a run backwards does, from the image to noise.

    Where the calls are a scheduler's timesteps, in their order, it tells where the run began and how many steps it has.
    Otherwise the timestep alone tells, which falls from 1000 to 0.

    Source: diffusers, src/diffusers/schedulers and the loops of src/diffusers/pipelines.
    """

    def __init__(self) -> None:
        self._scale: Any = None
        self._begin = self._position = 0.0
        self._step = -1
        self._is_backwards = False

    def moment(self, timestep: Any, owner: Any) -> Moment:
        place, timesteps = _place(timestep, owner)
        if place is not None:
            self._enter(timesteps, place, place == len(timesteps) - 1)
            return self._moment(int(self._begin), place, len(timesteps), owner)
        value = _value(timestep)
        self._enter(None, -value, value <= 10)
        for timesteps in _schedules(owner):
            distinct = list(dict.fromkeys(timesteps.float().tolist()))
            begin, place = _nearest(-self._begin, distinct), _nearest(value, distinct)
            if begin is not None and place is not None and abs(place - begin) == self._step:
                return self._moment(begin, place, len(distinct), owner)
        progress = value / 1000 if self._is_backwards else 1 - value / 1000
        return Moment(min(max(progress, 0.0), 1.0), self._step)

    def _enter(self, scale: Any, position: float, is_last: bool) -> None:
        begins = self._step < 0 or scale is not self._scale
        if not begins and position != self._position:
            falls = position < self._position
            if self._step == 0 and not falls:
                self._is_backwards = False
            begins = falls != self._is_backwards
            self._step += 1
        if begins:
            self._scale, self._begin, self._step, self._is_backwards = scale, position, 0, is_last
        self._position = position

    def _moment(self, begin: int, place: int, count: int, owner: Any) -> Moment:
        """The point of sampling of a call at a place among a scheduler's timesteps."""
        steps = begin + 1 if self._is_backwards else count - begin
        if getattr(owner, "denoising_end", None):  # SDXL's pipelines leave the last timesteps to the refiner
            steps = min(owner.num_timesteps, steps)
        step = abs(place - begin)
        return Moment(min(step / steps, 1.0), step, few_steps=are_few(steps))


def _schedules(owner: Any) -> Iterator[Tensor]:
    """The timesteps of all schedulers that a model's owner holds, as a pipeline does."""
    held = vars(owner).values() if hasattr(owner, "__dict__") else ()
    return (found for each in held if type(found := getattr(each, "timesteps", None)) is Tensor)


def _place(timestep: Any, owner: Any) -> tuple[int | None, Any]:
    """Where a timestep stands among a scheduler's, and these, if it is a view of them, as in the loops of diffusers.
    That costs no look at its value, which would wait for the device."""
    if type(timestep) is Tensor:
        for timesteps in _schedules(owner):
            if timestep.untyped_storage().data_ptr() == timesteps.untyped_storage().data_ptr():
                return int(timestep.storage_offset() - timesteps.storage_offset()), timesteps
    return None, None


def _nearest(value: float, values: list[float]) -> int | None:
    """The place of a value that may have been rounded to half precision; None if it is not there."""
    place = min(range(len(values)), key=lambda each: abs(values[each] - value), default=None)
    return place if place is not None and abs(values[place] - value) <= 4e-3 * abs(value) else None


def _is_readable(timestep: Any) -> bool:
    """Whether it is a timestep, and has a value."""
    is_fake = isinstance(timestep, Tensor) and type(timestep) is not Tensor
    return timestep is not None and not is_fake and getattr(timestep, "ndim", 0) <= 1


def _falls(timestep: Any, before: Any) -> bool:
    """Whether a sampler made a further call after its last step: no later one has a higher timestep."""
    return before is not None and _value(timestep) <= _value(before)


def _value(timestep: Any) -> float:
    return float(torch.as_tensor(timestep).float().max())


def _whole(name: str, number: Any) -> int:
    try:
        return operator.index(number)
    except TypeError:
        raise TypeError(f"at: {name} must be a whole number, not {number!r}") from None
