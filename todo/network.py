"""The hook on a UNet or ControlNet: follows sampling, and arms the levels that have something to do."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch
from torch import nn

from .hook import Gradients, Hook, feature_grid, is_in_backward
from .progress import Progress
from .schedule import factor_at
from .settings import Settings
from .transformer import Transformer
from .unet import SelfAttention, has_compiled, is_compiled


class Network(Hook):
    """A UNet or ControlNet, and the hook that is called before it: arms the levels that have something to do."""

    def __init__(self, module: nn.Module, attentions: Sequence[SelfAttention], settings: Settings, progress: Progress):
        super().__init__()
        self.module = module
        self.settings = settings
        self.progress = progress
        self._gradients = Gradients()
        self.transformers = [
            Transformer(list(blocks), settings, progress, self._gradients)
            for _, blocks in groupby(attentions, lambda each: id(each.transformer))
        ]
        self._lock = threading.Lock()
        self._thread: int | None = None
        self._keeps_hooks = False
        self._is_traced = False
        self._handle = module.register_forward_pre_hook(self, with_kwargs=True)
        for transformer in self.transformers:
            transformer.arm()
        if is_compiled(module):
            self._keep_hooks()

    def remove(self) -> None:
        """Takes all hooks off."""
        self._handle.remove()
        for transformer in self.transformers:
            transformer.disarm()
            transformer.forget()

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
        reasons: dict[int, str] = {}
        for transformer in self.transformers:
            if latent is None:
                transformer.arm()
                continue
            depth, grid = transformer.depth, _grid(latent, transformer.depth)
            if depth not in reasons:
                reasons[depth] = factor_at(self.settings, transformer.resolution, grid, self.progress.moment)[1]
            if reasons[depth]:
                transformer.disarm()
                transformer.count_whole(grid, reasons[depth])
            else:
                transformer.arm()

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
                for transformer in self.transformers:
                    transformer.arm()
        return self._keeps_hooks

    def _keep_hooks(self) -> None:
        """Puts all hooks on for good. Code that was compiled without them has to be compiled again."""
        self._keeps_hooks = True
        missing = [transformer.arm_blocks() for transformer in self.transformers]
        if any(missing) and not self._is_traced:
            torch._dynamo.reset()


def _grid(latent: tuple[int, int], depth: int) -> tuple[int, int]:
    """The token grid of a level; each halving of the latent rounds up."""
    return math.ceil(latent[0] / 2**depth), math.ceil(latent[1] / 2**depth)


def _timestep(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    found = next((kwargs[name] for name in ("timesteps", "timestep", "t") if name in kwargs), None)
    return args[1] if found is None and len(args) > 1 else found


def _depends_on_progress(settings: Settings) -> bool:
    return settings.phase == "cycle" or settings.taper or settings.start > 0 or settings.end < 1
