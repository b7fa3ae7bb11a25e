"""Timing calls on a device: what the benchmark and the page's measurement have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

_Turn = TypeVar("_Turn")


def rotated(turns: Sequence[_Turn], number: int) -> list[_Turn]:
    """The order of a round: each begins with the next one, so that none always follows the same idle spell."""
    start = number % len(turns)
    return [*turns[start:], *turns[:start]]


def wait(device: torch.device) -> None:
    """Waits until the device has done what it was asked to do."""
    synchronize = getattr(_backend(device), "synchronize", None)
    if synchronize and device.type == "mps":
        synchronize()  # there is but one, which it does not name
    elif synchronize and device.type != "cpu":
        synchronize(device)


@dataclass
class Peak:
    """Device memory in bytes: `before` a `with` block, and the `most` held at once within it, known when it has ended.
    Both are None where the device keeps no account."""

    before: int | None = None
    most: int | None = None


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Peak]:
    """Follows the device allocator's own peak, workspaces included, in a `with` block."""
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
    """Whether an error says that the device's memory does not suffice."""
    # Not every device has an error of its own for it. Where a system promises more memory than there is, it ends the
    # process instead.
    return isinstance(error, torch.cuda.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(sign in str(error) for sign in ("DefaultCPUAllocator", "out of memory"))
    )


def _backend(device: torch.device) -> Any:
    """torch's module for a kind of device, such as torch.cuda; None if it has none."""
    return getattr(torch, device.type, None)
