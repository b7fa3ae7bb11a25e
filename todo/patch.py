"""Puts ToDo on a model and takes it off again, by hooks on the inputs of the key and value projections.

Hooking these inputs, and nothing around them, leaves every host's attention code as it is and composes with
whatever else replaces it: a block sees fewer keys and values, and need not know why.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from todo.block import Block, BlockReport, untraced
from todo.downsample import release
from todo.schedule import Moment, touches
from todo.settings import Settings
from todo.unet import (
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
    """ToDo on one UNet and the ControlNets beside it. Made by `apply_patch`; `remove` takes it off for good.

    Attributes:
        networks: the networks that carry the hooks: the UNet, then the ControlNets.
        settings: what it does.
        moment: where sampling stands.
    """

    def __init__(self, unet: nn.Module, settings: Settings, controlnets: Sequence[nn.Module] = ()):
        self.networks = (unet, *controlnets)
        self.settings = settings
        self.moment = Moment()
        self._told = False
        self._timestep: float | None = None
        found = [*find_self_attention(unet), *_in_controlnets(controlnets)]
        reach = [block for block in found if touches(settings, block.resolution)]
        self._blocks = [Block(block, settings, lambda: self.moment) for block in reach]
        self._handles = list(self._hooks())
        for network in self.networks:
            setattr(network, _ATTRIBUTE, self)

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
        """Whether the networks carry this patch now."""
        return all(getattr(network, _ATTRIBUTE, None) is self for network in self.networks)

    def remove(self) -> None:
        """Takes every hook off. The networks compute exactly what they did before. Does nothing the second time."""
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
        """Follows the timestep of an untold patch: it falls from step to step, and rises where a new run begins.

        Reading it waits for the device, so it is read only where it matters.
        """
        if self._told or not _depends_on_time(self.settings):
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
    """Makes a model's self-attention compute keys and values from a downsampled token grid.

    Args:
        model: an ldm, sgm or WebUI model, a diffusers pipeline, or the UNet of any of them. A patch that it has
            already is replaced.
        settings: what to do. Unless `settings.controlnet` is false, the ControlNets that the model holds (a diffusers
            pipeline's, a cldm model's) are patched as well.
        controlnets: further ControlNets that run beside the UNet, where the model does not hold them.

    Returns:
        The patch: tell it by `at` where sampling stands, ask it by `report` what it did. An untold patch takes the
        progress from the timestep, 1 − t / 1000, and counts a step whenever the timestep falls; where it rises, a
        new run begins. After a run that was cut short, put the patch on anew.

    A model under torch.compile is compiled anew at its next call, whichever came first; where the compiler made a new
    module of the UNet, that one is to be given, not the one within. Compiled as one graph (`fullgraph=True`) the
    model fails at its next call, saying so: the hooks are no part of a graph.

    Raises:
        UnsupportedModelError: the model has no self-attention that can be reached.
    """
    unet = find_unet(model)
    beside = dict.fromkeys([*find_controlnets(model), *controlnets]) if settings.controlnet else ()
    for network in (unet, *beside):
        _remove_from(network)
    patch = Patch(unet, settings, tuple(beside))
    if any(is_compiled(network) for network in patch.networks):
        # What was compiled without hooks would go on without them.
        torch._dynamo.reset()
    return patch


def remove_patch(model: Any) -> bool:
    """Takes the patch off a model. Returns whether there was one. The model then computes exactly what it did
    before the patch."""
    try:
        return _remove_from(find_unet(model))
    except UnsupportedModelError:
        return False


@contextmanager
def patched(model: Any, settings: Settings, controlnets: Sequence[nn.Module] = ()) -> Iterator[Patch]:
    """`apply_patch` for the length of a `with` block."""
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
    """The blocks of ControlNets, named after them. One whose attention cannot be reached stays as it is."""
    for index, network in enumerate(controlnets):
        with suppress(UnsupportedModelError):
            for block in find_self_attention(network):
                yield replace(block, name=f"controlnet.{index}.{block.name}")


def _depends_on_time(settings: Settings) -> bool:
    return settings.phase == "cycle" or settings.taper or settings.start > 0 or settings.end < 1
