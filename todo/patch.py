"""Puts ToDo on a model and takes it off again, by hooks on the inputs of the key and value projections.

Hooking these inputs, and nothing around them, leaves every host's attention code as it is and composes with
whatever else replaces it: a block sees fewer keys and values, and need not know why.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from todo.block import Block, BlockReport
from todo.downsample import release
from todo.schedule import Moment, touches
from todo.settings import Settings
from todo.unet import UnsupportedModelError, find_self_attention, find_unet

_ATTRIBUTE = "_todo_patch"
_TRAINING_TIMESTEPS = 1000


class Patch:
    """ToDo on one UNet. Made by `apply_patch`; `remove` takes it off for good.

    Attributes:
        unet: the UNet that carries the hooks.
        settings: what it does.
        moment: where sampling stands.
    """

    def __init__(self, unet: nn.Module, settings: Settings):
        self.unet = unet
        self.settings = settings
        self.moment = Moment()
        self._told = False
        self._timestep: float | None = None
        reach = [block for block in find_self_attention(unet) if touches(settings, block.resolution)]
        self._blocks = [Block(block, settings, lambda: self.moment) for block in reach]
        self._handles = list(self._hooks())
        setattr(unet, _ATTRIBUTE, self)

    def at(self, step: int, steps: int, hires: bool = False) -> None:
        """Tells where sampling stands; to be called before each step's UNet calls.

        Args:
            step: calls of the denoiser so far in this pass; also turns the phase.
            steps: how many there will be; progress is step / steps, clamped to [0, 1].
            hires: whether this is the second pass of hires fix.
        """
        self._told = True
        progress = min(max(step / steps, 0.0), 1.0) if steps > 0 else 0.0
        self.moment = Moment(progress, step, hires)

    def report(self) -> list[BlockReport]:
        """What was downsampled and what was skipped since the patch was put on, by block and grid."""
        return [row for block in self._blocks for row in block.report()]

    @property
    def attached(self) -> bool:
        """Whether the UNet carries this patch now."""
        return getattr(self.unet, _ATTRIBUTE, None) is self

    def remove(self) -> None:
        """Takes every hook off. The UNet computes exactly what it did before. Does nothing the second time."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        release()
        if self.attached:
            delattr(self.unet, _ATTRIBUTE)

    def _hooks(self) -> Iterator[RemovableHandle]:
        yield self.unet.register_forward_pre_hook(self._on_unet, with_kwargs=True)
        for block in self._blocks:
            yield from block.hooks()

    def _on_unet(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Follows the timestep of an untold patch: it falls from step to step, and rises where a new run begins.

        Reading it waits for the device, so it is read only where it matters.
        """
        if self._told or not _depends_on_time(self.settings):
            return
        timestep = next((kwargs[name] for name in ("timesteps", "timestep", "t") if name in kwargs), None)
        if timestep is None and len(args) > 1:
            timestep = args[1]
        if timestep is None:
            return
        now = float(torch.as_tensor(timestep).max())
        if now == self._timestep:
            return
        begins = self._timestep is None or now > self._timestep
        progress = min(max(1.0 - now / _TRAINING_TIMESTEPS, 0.0), 1.0)
        self.moment = Moment(progress, 0 if begins else self.moment.step + 1)
        self._timestep = now


def apply_patch(model: Any, settings: Settings) -> Patch:
    """Makes a model's self-attention compute keys and values from a downsampled token grid.

    Args:
        model: an ldm, sgm or WebUI model, a diffusers pipeline, or the UNet of any of them. A patch that it has
            already is replaced.
        settings: what to do.

    Returns:
        The patch: tell it by `at` where sampling stands, ask it by `report` what it did. An untold patch takes the
        progress from the timestep, 1 − t / 1000, and counts a step whenever the timestep falls; where it rises, a
        new run begins. After a run that was cut short, put the patch on anew.

    Raises:
        UnsupportedModelError: the model has no self-attention that can be reached.
    """
    unet = find_unet(model)
    remove_patch(unet)
    return Patch(unet, settings)


def remove_patch(model: Any) -> bool:
    """Takes the patch off a model. Returns whether there was one. The model then computes exactly what it did
    before the patch."""
    try:
        unet = find_unet(model)
    except UnsupportedModelError:
        return False
    patch = getattr(unet, _ATTRIBUTE, None)
    if patch is None:
        return False
    patch.remove()
    return True


@contextmanager
def patched(model: Any, settings: Settings) -> Iterator[Patch]:
    """`apply_patch` for the length of a `with` block."""
    patch = apply_patch(model, settings)
    try:
        yield patch
    finally:
        patch.remove()


def _depends_on_time(settings: Settings) -> bool:
    return settings.phase == "cycle" or settings.taper or settings.start > 0 or settings.end < 1
