"""The hook on one spatial transformer. It knows the exact token grid (h, w), and decides once for all its blocks
whether and how to downsample. Its blocks have hooks only where there is something to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from .block import Block, Call, Thread
from .hook import Gradients, Grid, Hook, feature_grid, is_in_backward
from .level import Level
from .report import MASK, NO_GRID, BlockReport, Counts, Event, rows
from .unet import SelfAttention


class Transformer(Hook):
    """One spatial transformer, and the hook that is called before it."""

    def __init__(self, blocks: Sequence[SelfAttention], level: Level, gradients: Gradients):
        super().__init__()
        self.module = blocks[0].transformer
        self.depth = blocks[0].depth
        self.level = level
        self._gradients = gradients
        self._found = blocks
        self._counted: list[Counts] = []
        self._thread = Thread(len(blocks), self._counted)
        self._blocks = [Block(block, number, self._thread) for number, block in enumerate(blocks)]
        self._handle: RemovableHandle | None = None

    def arm(self) -> None:
        """Puts the transformer's own hook on. Those of its blocks follow at a call in which it acts."""
        if self._handle is None:
            self._handle = self.module.register_forward_pre_hook(self, with_kwargs=True)

    def arm_blocks(self) -> None:
        """Puts all hooks on."""
        self.arm()
        for block in self._blocks:
            block.attach()

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
        if grid is None:
            self._leave_whole(grid, NO_GRID)
        elif kwargs.get("attention_mask") is not None:
            self._leave_whole(grid, MASK)
        else:
            self._begin(grid)

    def _begin(self, grid: Grid) -> None:
        """Begins a call whose blocks may be downsampled."""
        decision = self.level.decide(grid)
        if decision.reason:
            self._leave_whole(grid, decision.reason)
            return
        thread = self._thread
        counts = thread.counts.downsampled(grid, decision.kept)
        counts[-1] += 1
        thread.call = Call(decision, counts, torch.is_grad_enabled() or self._gradients.are_expected)
        for block in self._blocks:
            block.attach()

    def _leave_whole(self, grid: Grid | None, reason: str) -> None:
        """Counts a call in which all blocks are left whole."""
        thread = self._thread
        thread.call = None
        thread.counts.add(Event(None, grid, None, reason))

    def report(self) -> Iterator[BlockReport]:
        """What happened, by block and grid size."""
        return rows(self._found, [*self._counted, self.level.counts])
