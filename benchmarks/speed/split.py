"""Where the time of a UNet call goes: by type of block, and for self-attention by level."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from benchmarks.environment import now
from todo.unet import find_self_attention

SELF_ATTENTION, OTHER = "self-attention", "other"
KINDS = (SELF_ATTENTION, "cross-attention", "feed-forward", "convolution", OTHER)
"""Types of block. Convolution: residual blocks and resampling. Other: norms and projections of the transformers, the
timestep embedding, and what a method does between blocks."""

FINEST_LEVEL, MIDDLE = "1", "middle"

_WHOLE = "whole"


@dataclass(frozen=True)
class Split:
    """Seconds of one call.

    Attributes:
        kinds: by type of block. They add up to the whole call.
        levels: of self-attention: '1' is the model's finest level, '2' the one of half its size per side, and so on;
            'middle' is the middle block.
    """

    kinds: dict[str, float]
    levels: dict[str, float]

    @property
    def total(self) -> float:
        return sum(self.kinds.values())


class Watch:
    """Hooks on a UNet that record when each block begins and ends."""

    def __init__(self, unet: nn.Module):
        self._mark, self._seconds = _clock(next(unet.parameters()).device)
        self._spans: list[tuple[str, str, Any, Any]] = []
        self._begun: list[Any] = []
        levels = {block.attention: str(block.resolution) for block in find_self_attention(unet)}
        self._handles = list(self._hooks(unet, _WHOLE, ""))
        for kind, module in _blocks(unet):
            level = levels.get(module, MIDDLE) if kind == SELF_ATTENTION else ""
            self._handles += self._hooks(module, kind, level)

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()

    def split(self) -> Split:
        """The mean split of the calls so far."""
        calls = sum(kind == _WHOLE for kind, *_ in self._spans)
        kinds: dict[str, float] = defaultdict(float)
        levels: dict[str, float] = defaultdict(float)
        for kind, level, begin, end in self._spans:
            seconds = self._seconds(begin, end) / calls
            kinds[kind] += seconds
            if level:
                levels[level] += seconds
        blocks = {kind: kinds[kind] for kind in KINDS if kind != OTHER}
        return Split({**blocks, OTHER: kinds[_WHOLE] - sum(blocks.values())}, dict(sorted(levels.items())))

    def _hooks(self, module: nn.Module, kind: str, level: str) -> Iterator[RemovableHandle]:
        """Hooks that run outside those of a method on the same module, so that its work counts."""

        def begin(*_: Any) -> None:
            self._begun.append(self._mark())

        def end(*_: Any) -> None:
            self._spans.append((kind, level, self._begun.pop(), self._mark()))

        yield module.register_forward_pre_hook(begin, prepend=True)
        yield module.register_forward_hook(end)


@contextmanager
def watched(unet: nn.Module) -> Iterator[Watch]:
    """A `Watch` within a `with` block."""
    watch = Watch(unet)
    try:
        yield watch
    finally:
        watch.remove()


def _blocks(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The types and modules of a UNet's blocks, found by structure alone. Blocks do not overlap."""
    for block in getattr(module, "transformer_blocks", ()):
        yield from ((SELF_ATTENTION, block.attn1), ("cross-attention", block.attn2), ("feed-forward", block.ff))
    if hasattr(module, "transformer_blocks"):
        return
    for child in module.children():
        is_called = not isinstance(child, nn.ModuleList)
        if is_called and _has_convolution(child) and not _has_transformer(child):
            yield "convolution", child
        else:
            yield from _blocks(child)


def _has_convolution(module: nn.Module) -> bool:
    return any(isinstance(part, nn.Conv2d) for part in module.modules())


def _has_transformer(module: nn.Module) -> bool:
    return any(hasattr(part, "transformer_blocks") for part in module.modules())


def _clock(device: torch.device) -> tuple[Callable[[], Any], Callable[[Any, Any], float]]:
    """A function that marks the current time, and one that returns the seconds between two marks.

    On CUDA, marks are events in the stream of kernels and are read after the call, so that the call need not wait.
    """
    if device.type != "cuda":
        return now(device), lambda begin, end: end - begin

    def mark() -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(device))
        return event

    def seconds(begin: torch.cuda.Event, end: torch.cuda.Event) -> float:
        end.synchronize()
        return begin.elapsed_time(end) / 1000

    return mark, seconds
