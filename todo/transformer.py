"""The hook on one spatial transformer. It knows the exact token grid (h, w), and decides once for all its blocks
whether and how to downsample. Its blocks have hooks only where there is something to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from .block import Block, Call, Thread
from .downsample import kept_tokens
from .hook import Gradients, Grid, Hook, feature_grid, is_in_backward
from .progress import Progress
from .report import MASK, NO_GRID, BlockReport, Counts, Event, rows
from .schedule import factor_at, phase_step
from .settings import Settings
from .unet import SelfAttention


class Transformer(Hook):
    """One spatial transformer, and the hook that is called before it."""

    def __init__(self, blocks: Sequence[SelfAttention], settings: Settings, progress: Progress, gradients: Gradients):
        super().__init__()
        self._gradients = gradients
        self.module = blocks[0].transformer
        self.resolution, self.depth = blocks[0].resolution, blocks[0].depth
        self.settings = settings
        self.progress = progress
        self.counts = Counts()
        self._thread = Thread()
        self._found = blocks
        self._blocks = [Block(block, number, self.counts, self._thread) for number, block in enumerate(blocks)]
        self._handle: RemovableHandle | None = None
        self._known_events: dict[tuple[Grid, float], list[Event]] = {}

    def arm(self) -> None:
        """Puts the transformer's own hook on. Those of its blocks follow at a call in which it acts."""
        if self._handle is None:
            self._handle = self.module.register_forward_pre_hook(self, with_kwargs=True)

    def arm_blocks(self) -> bool:
        """Puts all hooks on; returns whether one was missing."""
        self.arm()
        missing = [block.attach() for block in self._blocks]
        return any(missing)

    def disarm(self) -> None:
        """Takes all hooks off."""
        if self._handle:
            self._handle.remove()
            self._handle = None
            for block in self._blocks:
                block.detach()

    def forget(self) -> None:
        """Releases the tokens of a call that was interrupted."""
        self._thread.call = None

    def run(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if is_in_backward():
            return  # each block recognises its call
        grid = feature_grid(args, kwargs)
        call, reason = self._decide(grid, kwargs)
        self._thread.call = call
        if call is None:
            self.count_whole(grid, reason)
            return
        self.counts.add(call.events[-1])
        for block in self._blocks:
            block.attach()

    def count_whole(self, grid: Grid | None, reason: str) -> None:
        """Counts a call in which all blocks are left whole."""
        self.counts.add(Event(None, grid, None, reason))

    def report(self) -> Iterator[BlockReport]:
        """What happened, by block and grid size."""
        return rows(self._found, self.counts.total())

    def _decide(self, grid: Grid | None, kwargs: dict[str, Any]) -> tuple[Call | None, str]:
        if grid is None:
            return None, NO_GRID
        if kwargs.get("attention_mask") is not None:
            return None, MASK
        moment = self.progress.moment
        factor, reason = factor_at(self.settings, self.resolution, grid, moment)
        if reason:
            return None, reason
        is_remembered = torch.is_grad_enabled() or self._gradients.are_expected
        step = phase_step(self.settings, moment)
        return Call(grid, factor, self.settings.method, step, self._events(grid, factor), is_remembered), ""

    def _events(self, grid: Grid, factor: float) -> list[Event]:
        """What is counted when a block is downsampled, by its number, and in the end when the transformer is called."""
        if (grid, factor) not in self._known_events:
            kept = kept_tokens(grid, factor)
            numbers = (*range(len(self._blocks)), None)
            self._known_events[grid, factor] = [Event(number, grid, kept, "") for number in numbers]
        return self._known_events[grid, factor]
