"""The hooks on one self-attention block, and what they share.

- on to_q: reads the batch size of the queries, which tiling changes, and marks the start of an attention call.
- on to_k: downsamples the tokens, unless something speaks against it, and counts.
- on to_v: does what the hook on to_k did.

What they share belongs to the present call of their thread, so that threads do not see each other's.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .downsample import GATHERS, downsample, indices
from .hook import Grid, Hook, is_in_backward
from .report import (
    NO_QUERY,
    NOT_TOKENS,
    OTHER_BATCH,
    OTHER_TOKENS,
    REPLACED,
    Counts,
    Event,
)
from .unet import SelfAttention

_REMEMBERED = 256
"""Forward calls of a block that are recognised when they are computed again."""

_ATTACHING = threading.Lock()
"""Two threads may find at once that hooks are missing."""

_FINGERPRINT = 16
"""Channels by which they are recognised."""


class Call:
    """A call of the transformer that is to be downsampled, and the attention call within it that is under way."""

    __slots__ = (
        "events",
        "factor",
        "fewer",
        "grid",
        "index",
        "is_remembered",
        "method",
        "query_batch",
        "step",
        "tokens",
        "whole",
    )

    def __init__(
        self, grid: Grid, factor: float, method: str, step: int | None, events: list[Event], is_remembered: bool
    ):
        self.is_remembered = is_remembered
        self.grid = grid
        self.factor = factor
        self.method = method
        self.step = step
        self.tokens = grid[0] * grid[1]
        self.events = events
        self.index: Tensor | None = None
        self.begin(None)

    def begin(self, query_batch: int | None) -> None:
        """Begins an attention call, or ends one if there is no batch."""
        self.query_batch = query_batch
        self.whole: Tensor | None = None
        self.fewer: Tensor | None = None

    def downsampled(self, tokens: Tensor) -> Tensor:
        """The kept tokens."""
        if tokens.size(1) != self.tokens or self.method not in GATHERS:
            return downsample(tokens, self.grid, self.factor, self.method, self.step)
        if self.index is None or self.index.device != tokens.device:
            # Looked up once for all blocks of the transformer.
            self.index = indices(tokens, self.grid, self.factor, self.method, self.step)
        return tokens.index_select(1, self.index)


class Thread(threading.local):
    """What one thread is computing."""

    call: Call | None = None


class Block:
    """One self-attention block: its hooks, and its calls that may be computed again."""

    def __init__(self, where: SelfAttention, number: int, counts: Counts, thread: Thread):
        self.where = where
        self.number = number
        self.counts = counts
        self.thread = thread
        self._remembered: deque[tuple[Tensor, Call]] = deque(maxlen=_REMEMBERED)
        self.hooked: tuple[Any, ...] = ()
        self._handles: list[RemovableHandle] = []
        self._hooks = (_OnQuery(self), _OnKey(self), _OnValue(self))

    def attach(self) -> bool:
        """Puts hooks on the present projections, so that one that was wrapped or replaced is found again. Returns
        whether they were missing."""
        modules = self.where.attention._modules
        present = (modules["to_q"], modules["to_k"], modules["to_v"])
        if present == self.hooked:
            return False
        with _ATTACHING:
            if present == self.hooked:
                return False
            self.detach()
            for projection, hook in zip(present, self._hooks, strict=True):
                if projection is not None:
                    self._handles.append(projection.register_forward_pre_hook(hook))
            self.hooked = present
        return True

    def detach(self) -> None:
        """Takes the hooks off."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self.hooked = ()

    def remember(self, tokens: Tensor, call: Call) -> None:
        """Keeps how a call with gradients was downsampled, in case it is computed again in the backward pass."""
        self._remembered.append((_fingerprint(tokens), call))

    def recomputed(self, tokens: Any) -> Call | None:
        """How the forward call that is being computed again was downsampled; None if it was left whole."""
        if not isinstance(tokens, Tensor) or tokens.ndim != 3:
            return None
        seen = _fingerprint(tokens)
        for fingerprint, call in reversed(self._remembered):
            if fingerprint.shape == seen.shape and torch.equal(fingerprint, seen):
                return call
        return None


class _OnQuery(Hook):
    def __init__(self, block: Block):
        super().__init__()
        self._thread = block.thread

    def run(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        call = self._thread.call
        if call is not None:
            call.whole = None
            call.query_batch = args[0].size(0) if args else None


class _OnKey(Hook):
    def __init__(self, block: Block):
        super().__init__()
        self._block = block
        self._thread = block.thread

    def run(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        tokens: Any = args[0] if args else None
        if is_in_backward():
            call = self._thread.call = self._block.recomputed(tokens)
        else:
            call = self._thread.call
            if call is not None and not self._begins(call, tokens):
                return None
        if call is None:
            return None
        fewer = call.fewer = call.downsampled(tokens)
        call.whole = tokens
        return (fewer, *args[1:]) if len(args) > 1 else (fewer,)

    def _begins(self, call: Call, tokens: Any) -> bool:
        """Counts an attention call; returns whether its tokens are downsampled."""
        block = self._block
        reason = self._obstacle(call, tokens)
        if reason:
            call.begin(None)
            block.counts.add(Event(block.number, call.grid, None, reason))
            return False
        block.counts.add(call.events[block.number])
        if call.is_remembered:
            block.remember(tokens, call)
        return True

    def _obstacle(self, call: Call, tokens: Any) -> str:
        """Why `tokens` cannot be downsampled, whatever the settings; '' if they can."""
        if not isinstance(tokens, Tensor) or tokens.dim() != 3:
            return NOT_TOKENS
        if call.query_batch is None:
            return NO_QUERY
        batch, count, _ = tokens.shape
        if batch != call.query_batch:
            return OTHER_BATCH
        if count != call.tokens and (count == 0 or count % call.tokens):
            return OTHER_TOKENS
        _, key, value = self._block.hooked
        if "forward" in key.__dict__ or "forward" in value.__dict__:
            return REPLACED if _is_replaced(key) or _is_replaced(value) else ""
        return ""


class _OnValue(Hook):
    def __init__(self, block: Block):
        super().__init__()
        self._thread = block.thread

    def run(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        call = self._thread.call
        # Perturbed attention computes values without keys. These stay whole.
        if call is None or call.whole is None:
            return None
        tokens: Any = args[0] if args else None
        whole, fewer = call.whole, call.fewer
        call.whole = call.fewer = call.query_batch = None
        if tokens is whole:
            return (fewer, *args[1:]) if len(args) > 1 else (fewer,)
        # A hypernetwork makes separate inputs of the same shape for keys and values.
        if isinstance(tokens, Tensor) and tokens.shape[:2] == whole.shape[:2]:
            return (call.downsampled(tokens), *args[1:])
        return None


def _is_replaced(projection: Any) -> bool:
    """Whether another extension has replaced the forward of a projection's instance.

    ControlNet-LLLite does so on A1111, to add something to each token. When it removes itself, it assigns the module's
    own method to the instance, which does not count. Nor do the forwards of accelerate and diffusers, which only move
    or cast weights.
    """
    forward = vars(projection).get("forward")
    own = forward is None or getattr(forward, "__self__", None) is projection
    return not own and not any(hasattr(projection, mark) for mark in ("_hf_hook", "_diffusers_hook"))


def _fingerprint(tokens: Tensor) -> Tensor:
    """The first and last token of every item, and how many there are: enough to tell the inputs of two calls apart."""
    ends = tokens.detach()[:, :: max(tokens.shape[1] - 1, 1), :_FINGERPRINT].flatten()
    return torch.cat([ends, ends.new_tensor([float(tokens.shape[1])])])
