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

from .hook import Hook, is_in_backward
from .level import Decision
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
    """A call of the transformer that is to be downsampled, and the attention call within it that is under way.

    Attributes:
        counts: of downsampled calls by block.
        is_remembered: whether it may be computed again in a backward pass.
        query_batch: of the attention call under way; None between them.
        whole, fewer: the tokens given to the key projection, and the kept ones.
    """

    __slots__ = ("counts", "decision", "fewer", "is_remembered", "query_batch", "whole")

    def __init__(self, decision: Decision, counts: list[int], is_remembered: bool):
        self.decision = decision
        self.counts = counts
        self.is_remembered = is_remembered
        self.query_batch: int | None = None
        self.whole: Tensor | None = None
        self.fewer: Tensor | None = None

    def end(self) -> None:
        """Ends an attention call."""
        self.query_batch = self.whole = self.fewer = None


class Thread(threading.local):
    """What one thread is computing at a transformer, and what it has counted there.

    Args:
        blocks: of the transformer.
        counted: the counts of all threads; those of a new one are added.
    """

    def __init__(self, blocks: int, counted: list[Counts]):
        self.call: Call | None = None
        self.counts = Counts(blocks)
        counted.append(self.counts)


_NONE = (None, None, None)


class Block:
    """One self-attention block: its hooks, and its calls that may be computed again."""

    def __init__(self, where: SelfAttention, number: int, thread: Thread):
        self.where = where
        self.number = number
        self.thread = thread
        self._remembered: deque[tuple[Tensor, Call]] = deque(maxlen=_REMEMBERED)
        self._modules = where.attention._modules
        self.hooked: tuple[Any, Any, Any] = _NONE
        self._handles: list[RemovableHandle] = []
        self._hooks = (_OnQuery(self), _OnKey(self), _OnValue(self))

    def attach(self) -> None:
        """Puts hooks on the present projections, so that one that was wrapped or replaced is found again."""
        modules = self._modules
        query, key, value = self.hooked
        if modules["to_k"] is key and modules["to_v"] is value and modules["to_q"] is query:
            return
        present = (modules["to_q"], modules["to_k"], modules["to_v"])
        with _ATTACHING:
            if present == self.hooked:
                return
            self.detach()
            for projection, hook in zip(present, self._hooks, strict=True):
                if projection is not None:
                    self._handles.append(projection.register_forward_pre_hook(hook))
            self.hooked = present

    def detach(self) -> None:
        """Takes the hooks off."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self.hooked = _NONE

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
            if call is None:
                return None
        else:
            call = self._thread.call
            if call is None or not self._begins(call, tokens):
                return None
        call.whole = tokens
        fewer = call.fewer = call.decision.downsampled(tokens)
        return (fewer, *args[1:]) if len(args) > 1 else (fewer,)

    def _begins(self, call: Call, tokens: Any) -> bool:
        """Counts an attention call; returns whether its tokens are downsampled."""
        block = self._block
        reason = self._obstacle(call, tokens)
        if reason:
            call.end()
            self._thread.counts.add(Event(block.number, call.decision.grid, None, reason))
            return False
        call.counts[block.number] += 1
        if call.is_remembered:
            block.remember(tokens, call)
        return True

    def _obstacle(self, call: Call, tokens: Any) -> str:
        """Why `tokens` cannot be downsampled, whatever the settings; '' if they can."""
        shape = tokens.shape if isinstance(tokens, Tensor) else ()
        if len(shape) != 3:
            return NOT_TOKENS
        if call.query_batch is None:
            return NO_QUERY
        if shape[0] != call.query_batch:
            return OTHER_BATCH
        count, expected = shape[1], call.decision.tokens
        if count != expected and (count == 0 or count % expected):
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
        call.end()
        if tokens is whole:
            return (fewer, *args[1:]) if len(args) > 1 else (fewer,)
        # A hypernetwork makes separate inputs of the same shape for keys and values.
        if isinstance(tokens, Tensor) and tokens.shape[:2] == whole.shape[:2]:
            return (call.decision.downsampled(tokens), *args[1:])
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
