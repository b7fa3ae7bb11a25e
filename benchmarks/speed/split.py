"""Where a UNet call's time goes: by type of block, and for self-attention by level."""

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
"""Types of block. Convolution: residual blocks, and what changes the latent's size. Other: norms and projections of the
transformers, the timestep's embedding, and what a method does between the blocks."""

FINEST_LEVEL, MIDDLE = "1", "middle"

_WHOLE = "whole"


@dataclass(frozen=True)
class Split:
    """Seconds of one call: by type of block, which add up to the whole call; and of self-attention by level: '1' is
    the model's finest, '2' that of half its size, and so on, 'middle' the middle block."""

    kinds: dict[str, float]
    levels: dict[str, float]

    @property
    def total(self) -> float:
        return sum(self.kinds.values())


class Watch:
    """Hooks on a UNet that take the time at which each block begins and ends."""

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
        """The split of a call: the mean of those made so far."""
        calls = sum(kind == _WHOLE for kind, *_ in self._spans)
        kinds: dict[str, float] = defaultdict(float)
        levels: dict[str, float] = defaultdict(float)
        for kind, level, begin, end in self._spans:
            seconds = self._seconds(begin, end) / calls
            kinds[kind] += seconds
            if level:
                levels[level] += seconds
        known = {kind: kinds[kind] for kind in KINDS if kind != OTHER}
        return Split({**known, OTHER: kinds[_WHOLE] - sum(known.values())}, dict(sorted(levels.items())))

    def _hooks(self, module: nn.Module, kind: str, level: str) -> Iterator[RemovableHandle]:
        """Hooks around those that a method has put on the same module, so that its work counts."""

        def begin(*_: Any) -> None:
            self._begun.append(self._mark())

        def end(*_: Any) -> None:
            self._spans.append((kind, level, self._begun.pop(), self._mark()))

        yield module.register_forward_pre_hook(begin, prepend=True)
        yield module.register_forward_hook(end)


@contextmanager
def watched(unet: nn.Module) -> Iterator[Watch]:
    """A `Watch` for the length of a `with` block."""
    watch = Watch(unet)
    try:
        yield watch
    finally:
        watch.remove()


def _blocks(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The blocks of a UNet with their kinds, found by structure alone. None lies in another."""
    for block in getattr(module, "transformer_blocks", ()):
        yield from ((SELF_ATTENTION, block.attn1), ("cross-attention", block.attn2), ("feed-forward", block.ff))
    if hasattr(module, "transformer_blocks"):
        return
    for child in module.children():
        is_list = isinstance(child, nn.ModuleList)  # which is never called itself
        if not is_list and not _has_transformer(child) and any(isinstance(each, nn.Conv2d) for each in child.modules()):
            yield "convolution", child
        else:
            yield from _blocks(child)


def _has_transformer(module: nn.Module) -> bool:
    return any(hasattr(each, "transformer_blocks") for each in module.modules())


def _clock(device: torch.device) -> tuple[Callable[[], Any], Callable[[Any, Any], float]]:
    """How to take the time, and how to tell the seconds between two such. On CUDA marks are put among the kernels, so
    that the call is not held up; they are read after it."""
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
