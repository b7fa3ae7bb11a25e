"""Timing helpers that the benchmark and the page's measurement share."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from todo import timing


def test_each_round_begins_with_a_different_candidate():
    rounds = [timing.rotated("abc", number) for number in range(4)]
    assert rounds == [list("abc"), list("bca"), list("cab"), list("abc")]


@pytest.mark.parametrize(
    ("error", "is_it"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9.0 GB)"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_out_of_memory_is_recognised(error, is_it):
    assert timing.is_out_of_memory(error) is is_it


def test_the_cpu_does_not_track_its_memory():
    with timing.peak_memory(torch.device("cpu")) as peak:
        torch.ones(1000)
    assert (peak.before, peak.most) == (None, None)


def test_a_device_that_tracks_its_memory(monkeypatch):
    """A stand-in for torch.cuda. After a reset, its peak starts from the memory in use."""
    calls = []
    backend = SimpleNamespace(
        synchronize=lambda device: calls.append("wait"),
        reset_peak_memory_stats=lambda device: calls.append("reset"),
        memory_allocated=lambda device: 100,
        max_memory_allocated=lambda device: 175,
    )
    monkeypatch.setattr(torch, "cuda", backend)
    with timing.peak_memory(torch.device("cuda")) as peak:
        calls.append("work")
    assert (peak.before, peak.most) == (100, 175)
    assert calls == ["wait", "reset", "work", "wait"]
