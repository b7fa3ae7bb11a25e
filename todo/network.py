"""The hook on a UNet or ControlNet: follows sampling, and arms the levels that have something to do."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from torch import nn

from .compiled import has_compiled, heed_hooks, is_compiled
from .hook import Gradients, Hook, feature_grid, is_in_backward
from .level import Level
from .progress import Progress
from .report import Event
from .settings import Settings
from .transformer import Transformer
from .unet import SelfAttention


class Network(Hook):
    """A UNet or ControlNet, and the hook that is called before it: arms the levels that have something to do."""

    def __init__(self, module: nn.Module, attentions: Sequence[SelfAttention], settings: Settings, progress: Progress):
        super().__init__()
        self.module = module
        self.settings = settings
        self.progress = progress
        self._gradients = Gradients()
        self._levels = {each.depth: Level(settings, each.resolution, progress) for each in attentions}
        self.transformers = [
            Transformer(blocks, self._levels[blocks[0].depth], self._gradients)
            for blocks in _by_transformer(attentions)
        ]
        self._lock = threading.Lock()
        self._thread: int | None = None
        self._keeps_hooks = False
        self._is_traced = False
        self._handle = module.register_forward_pre_hook(self, with_kwargs=True)
        self._armed: set[int] = set()
        self._arm(set(self._levels))
        # What was compiled may be of this network, even if nothing on it shows that.
        if has_compiled() or is_compiled(module):
            self._keep_hooks()

    def remove(self) -> None:
        """Takes all hooks off."""
        self._handle.remove()
        for transformer in self.transformers:
            transformer.disarm()
            transformer.forget()
        for level in self._levels.values():
            level.forget()

    def run(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if is_in_backward():
            return
        if _depends_on_progress(self.settings):
            self.progress.follow(_timestep(args, kwargs))
        are_gradients_expected = self._gradients.expect(args, kwargs)
        with self._lock:  # two threads may make their first calls at once
            if not self._must_keep_hooks(are_gradients_expected):
                self._arm_what_acts(feature_grid(args, kwargs))

    def run_within_trace(self, *args: Any) -> None:
        self._is_traced = True
        self.run(*args)
        self._is_traced = False

    def _arm_what_acts(self, latent: tuple[int, int] | None) -> None:
        if latent is None:
            self._arm(set(self._levels))
            return
        acting = set()
        for depth, level in self._levels.items():
            decision = level.decide(_grid(latent, depth))
            if decision.reason:
                level.counts.add(Event(None, decision.grid, None, decision.reason))
            else:
                acting.add(depth)
        self._arm(acting)

    def _arm(self, depths: set[int]) -> None:
        """Puts hooks on the transformers at these depths, and takes them off the others."""
        if depths != self._armed:
            for transformer in self.transformers:
                transformer.arm() if transformer.depth in depths else transformer.disarm()
            self._armed = depths

    def _must_keep_hooks(self, are_gradients_expected: bool) -> bool:
        """Whether hooks must not come off between calls: another thread's call may be under way, a backward pass may
        compute a call again, or compiled code would not notice."""
        thread = threading.get_ident()
        self._thread = self._thread or thread
        if not self._keeps_hooks:
            if has_compiled():
                self._keep_hooks()
            elif thread != self._thread or are_gradients_expected:
                self._keeps_hooks = True
                self._arm(set(self._levels))
        return self._keeps_hooks

    def _keep_hooks(self) -> None:
        """Puts all hooks on for good, so that compiled code need not change with the point of sampling."""
        self._keeps_hooks = True
        for transformer in self.transformers:
            transformer.arm_blocks()
        if not self._is_traced:  # while it compiles, torch.compile cannot be reset
            heed_hooks()


def _by_transformer(attentions: Sequence[SelfAttention]) -> Iterator[list[SelfAttention]]:
    for _, blocks in groupby(attentions, lambda each: id(each.transformer)):
        yield list(blocks)


def _grid(latent: tuple[int, int], depth: int) -> tuple[int, int]:
    """The token grid of a level; each halving of the latent rounds up."""
    return math.ceil(latent[0] / 2**depth), math.ceil(latent[1] / 2**depth)


def _timestep(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    found = next((kwargs[name] for name in ("timesteps", "timestep", "t") if name in kwargs), None)
    return args[1] if found is None and len(args) > 1 else found


def _depends_on_progress(settings: Settings) -> bool:
    return settings.phase == "cycle" or settings.taper or settings.start > 0 or settings.end < 1
