"""Patches a model with ToDo and removes the patch again, through hooks on the inputs of the key and value projections.

Because only these inputs change, the attention code of each host stays as it is, and so does any replacement of it by
other extensions. It simply receives fewer keys and values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from .block import Block, BlockReport, untraced
from .downsample import release
from .schedule import Moment, touches
from .settings import Settings
from .unet import (
    SelfAttention,
    UnsupportedModelError,
    find_controlnets,
    find_self_attention,
    find_unet,
    is_compiled,
)

_ATTRIBUTE = "_todo_patch"
_TRAINING_TIMESTEPS = 1000


class Patch:
    """ToDo on one UNet and its ControlNets. Created by `apply_patch`.

    Attributes:
        networks: the networks with hooks: the UNet, then the ControlNets.
        settings: how it downsamples.
        moment: the current point of sampling.
    """

    def __init__(self, unet: nn.Module, settings: Settings, controlnets: Sequence[nn.Module] = ()):
        self.networks = (unet, *controlnets)
        self.settings = settings
        self.moment = Moment()
        self._at_was_called = False
        self._timestep: float | None = None
        attentions = [*find_self_attention(unet), *_in_controlnets(controlnets)]
        touched = [attention for attention in attentions if touches(settings, attention.resolution)]
        self._blocks = [Block(attention, settings, lambda: self.moment) for attention in touched]
        self._handles = list(self._hooks())
        for network in self.networks:
            setattr(network, _ATTRIBUTE, self)

    def at(self, step: int, steps: int, hires: bool = False) -> None:
        """Sets the current point of sampling. Call it before the UNet calls of each sampling step.

        Args:
            step: the number of denoiser calls made so far in this pass. It also selects the phase.
            steps: the total number of denoiser calls in this pass. Progress is step / steps, clamped to [0, 1].
            hires: whether this is the hires pass of hires. fix.
        """
        self._at_was_called = True
        progress = min(max(step / steps, 0.0), 1.0) if steps > 0 else 0.0
        self.moment = Moment(progress, step, hires)

    def report(self) -> list[BlockReport]:
        """What was downsampled and what was skipped since the patch was applied, by block and grid size."""
        return [row for block in self._blocks for row in block.report()]

    @property
    def attached(self) -> bool:
        """Whether this patch is still on all its networks."""
        return all(getattr(network, _ATTRIBUTE, None) is self for network in self.networks)

    def remove(self) -> None:
        """Removes all hooks. The networks then compute exactly what they did before. A second call does nothing."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        for block in self._blocks:
            block.forget()
        release()
        for network in self.networks:
            if getattr(network, _ATTRIBUTE, None) is self:
                delattr(network, _ATTRIBUTE)

    def _hooks(self) -> Iterator[RemovableHandle]:
        for network in self.networks:
            yield network.register_forward_pre_hook(untraced(self._on_network), with_kwargs=True)
        for block in self._blocks:
            yield from block.hooks()

    def _on_network(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Derives the point of sampling from the timestep if `at` is never called.

        The timestep falls from step to step and rises when a new generation begins. Reading it waits for the device,
        so it is only read if the settings depend on it.
        """
        if self._at_was_called or not _depends_on_progress(self.settings):
            return
        timestep = next((kwargs[name] for name in ("timesteps", "timestep", "t") if name in kwargs), None)
        if timestep is None and len(args) > 1:
            timestep = args[1]
        if timestep is None or getattr(timestep, "ndim", 0) > 1:
            return
        now = float(torch.as_tensor(timestep).max())
        if now == self._timestep:
            return
        begins = self._timestep is None or now > self._timestep
        progress = min(max(1.0 - now / _TRAINING_TIMESTEPS, 0.0), 1.0)
        self.moment = Moment(progress, 0 if begins else self.moment.step + 1)
        self._timestep = now


def apply_patch(model: Any, settings: Settings, controlnets: Sequence[nn.Module] = ()) -> Patch:
    """Makes the self-attention of a model compute keys and values from a downsampled token grid.

    Args:
        model: an ldm, sgm or WebUI model, a diffusers pipeline, or the UNet of any of them. If the model is already
            patched, the patch is replaced.
        settings: how to downsample. Unless `settings.controlnet` is false, this also patches the ControlNets that the
            model holds (those of a diffusers pipeline or a cldm model).
        controlnets: further ControlNets that run with the UNet, if the model does not hold them.

    Returns:
        The patch. Call its `at` before each sampling step, and its `report` to learn what it did. If you never call
        `at`, the patch takes progress from the timestep t, as 1 − t / 1000. It counts a step whenever t falls, and
        starts counting from 0 when t rises. After an interrupted generation, apply the patch again.

    Raises:
        UnsupportedModelError: the model has no self-attention that ToDo can patch.

    A model under torch.compile is recompiled at its next call, whether it was compiled before or after patching. If
    torch.compile returned a new module for the UNet, pass that module, not the original. A model that was compiled as a
    single graph (`fullgraph=True`) raises an error at its next call, because the hooks cannot be part of a graph.

    Source: paper section 3.
    """
    unet = find_unet(model)
    beside = dict.fromkeys([*find_controlnets(model), *controlnets]) if settings.controlnet else ()
    for network in (unet, *beside):
        _remove_from(network)
    patch = Patch(unet, settings, tuple(beside))
    if any(is_compiled(network) for network in patch.networks):
        # Code that was compiled without the hooks would keep running without them.
        torch._dynamo.reset()
    return patch


def remove_patch(model: Any) -> bool:
    """Removes the patch from a model, which then computes exactly what it did before.

    Args:
        model: as for `apply_patch`. ControlNets that were patched with it are restored, too.

    Returns:
        Whether the model had a patch.
    """
    try:
        return _remove_from(find_unet(model))
    except UnsupportedModelError:
        return False


@contextmanager
def patched(model: Any, settings: Settings, controlnets: Sequence[nn.Module] = ()) -> Iterator[Patch]:
    """`apply_patch` for the duration of a `with` block, with the same arguments and errors."""
    patch = apply_patch(model, settings, controlnets)
    try:
        yield patch
    finally:
        patch.remove()


def _remove_from(network: nn.Module) -> bool:
    patch = getattr(network, _ATTRIBUTE, None)
    if patch is None:
        return False
    patch.remove()
    return True


def _in_controlnets(controlnets: Sequence[nn.Module]) -> Iterator[SelfAttention]:
    """The self-attention blocks of ControlNets. A ControlNet without any that ToDo can patch is ignored."""
    for index, network in enumerate(controlnets):
        with suppress(UnsupportedModelError):
            for block in find_self_attention(network):
                yield replace(block, name=f"controlnet.{index}.{block.name}")


def _depends_on_progress(settings: Settings) -> bool:
    return settings.phase == "cycle" or settings.taper or settings.start > 0 or settings.end < 1
