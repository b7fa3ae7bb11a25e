"""Timing of calls on a device, shared by the benchmark and the measurement on the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

_Turn = TypeVar("_Turn")


def rotated(turns: Sequence[_Turn], number: int) -> list[_Turn]:
    """The order of round `number`, which starts with a different candidate each round.

    Without the rotation, the same candidate would always run first after the pause between two rounds.
    """
    start = number % len(turns)
    return [*turns[start:], *turns[:start]]


def wait(device: torch.device) -> None:
    """Waits until the device has finished all queued work."""
    synchronize = getattr(_backend(device), "synchronize", None)
    if synchronize and device.type == "mps":
        synchronize()  # torch.mps takes no device, as there is only one
    elif synchronize and device.type != "cpu":
        synchronize(device)


@dataclass
class Peak:
    """Device memory in bytes. Both fields are None if the device does not track its memory.

    Attributes:
        before: memory in use before the `with` block.
        most: the most memory in use at once during the block, known when the block has ended.
    """

    before: int | None = None
    most: int | None = None


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Peak]:
    """Records the peak of the device's own allocator in a `with` block, including workspaces."""
    peak = Peak()
    backend = _backend(device)
    if not hasattr(backend, "reset_peak_memory_stats"):
        yield peak
        return
    wait(device)
    backend.reset_peak_memory_stats(device)
    peak.before = backend.memory_allocated(device)
    yield peak
    wait(device)
    peak.most = backend.max_memory_allocated(device)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the device ran out of memory."""
    # Not every device has its own error type for this. A system that overcommits memory kills the process instead.
    return isinstance(error, torch.cuda.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(sign in str(error) for sign in ("DefaultCPUAllocator", "out of memory"))
    )


def _backend(device: torch.device) -> Any:
    """torch's module for a type of device, such as torch.cuda; None if there is none."""
    return getattr(torch, device.type, None)
