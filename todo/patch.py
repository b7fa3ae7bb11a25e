"""Patches a model with ToDo and removes the patch again, through hooks on the inputs of the key and value projections.

Because only these inputs change, the attention code of each host stays as it is, and so does any replacement of it by
other extensions. It simply receives fewer keys and values. While there is nothing to do at a level, its modules carry
no hook.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from torch import nn

from .downsample import release
from .hook import ATTRIBUTE
from .network import Network
from .progress import Progress
from .report import BlockReport, table
from .schedule import Moment, touches
from .settings import Settings
from .transformer import Transformer
from .unet import (
    SelfAttention,
    UnsupportedModelError,
    find_controlnets,
    find_self_attention,
    find_unet,
)


class Patch:
    """ToDo on one UNet and its ControlNets. Created by `apply_patch`. A copy of a patched model is a plain model, also
    one that was pickled.

    Attributes:
        networks: the networks with hooks: the UNet, then the ControlNets.
        settings: how it downsamples.
    """

    def __init__(self, unet: nn.Module, settings: Settings, controlnets: Sequence[nn.Module] = (), owner: Any = None):
        self.networks = (unet, *controlnets)
        self.settings = settings
        self._owner = _reference(owner)
        self._progress = Progress(self._scheduler)
        self._attached: list[Network] = []
        self._reporting: list[Network] = []
        self.attach()

    @property
    def moment(self) -> Moment:
        """The current point of sampling, as this thread knows it."""
        return self._progress.moment

    def at(self, step: int, steps: int, hires: bool = False) -> None:
        """Sets the current point of sampling. Call it before the UNet calls of each sampling step. It holds for the
        calling thread, and for threads that have never called it.

        Args:
            step: the number of denoiser calls made so far in this pass. It also selects the phase.
            steps: the total number of denoiser calls in this pass. Progress is step / steps, clamped to [0, 1].
            hires: whether this is the hires pass of hires. fix.
        """
        progress = min(max(step / steps, 0.0), 1.0) if steps > 0 else 0.0
        self._progress.set(Moment(progress, step, hires))

    def report(self) -> list[BlockReport]:
        """What was downsampled and what was skipped since the patch was applied, by block and grid size."""
        return [
            row for network in self._reporting for transformer in network.transformers for row in transformer.report()
        ]

    def __str__(self) -> str:
        """The report as a table, by level and grid size."""
        return table(self.report())

    @property
    def attached(self) -> bool:
        """Whether this patch is still on all its networks."""
        return all(getattr(network, ATTRIBUTE, None) is self for network in self.networks)

    def attach(self) -> None:
        """Puts the hooks on."""
        unet, *controlnets = self.networks
        found = [(unet, find_self_attention(unet)), *_in_controlnets(controlnets)]
        for network in self.networks:
            setattr(network, ATTRIBUTE, self)
        self._attached = [
            Network(network, [each for each in blocks if touches(self.settings, each.resolution)],
                     self.settings, self._progress)
            for network, blocks in found
        ]  # fmt: skip
        self._reporting += self._attached
        _patches.add(self)

    def remove(self) -> None:
        """Removes all hooks. The networks then compute exactly what they did before. A second call does nothing."""
        for network in self._attached:
            network.remove()
        self._attached = []
        _patches.discard(self)
        release()
        for module in self.networks:
            if getattr(module, ATTRIBUTE, None) is self:
                delattr(module, ATTRIBUTE)

    @property
    def transformers(self) -> list[Transformer]:
        """The spatial transformers with hooks."""
        return [transformer for network in self._attached for transformer in network.transformers]

    def is_of(self, model: Any) -> bool:
        """Whether the patch was applied to this model, whatever UNet the model has now."""
        return self._owner() is model

    def _scheduler(self) -> Any:
        """The scheduler of the pipeline that the patch was applied to, None for other models."""
        return getattr(self._owner(), "scheduler", None)

    def __deepcopy__(self, memo: Any) -> None:
        return None

    def __reduce__(self) -> Any:
        return type(None), ()


_patches: weakref.WeakSet[Patch] = weakref.WeakSet()
"""Patches that are on: a pipeline's UNet may be replaced while it carries one."""


def apply_patch(model: Any, settings: Settings, controlnets: Sequence[nn.Module] = ()) -> Patch:
    """Makes the self-attention of a model compute keys and values from a downsampled token grid.

    Args:
        model: an ldm, sgm or WebUI model, a diffusers pipeline, or the UNet of any of them. If the model is already
            patched, the patch is replaced.
        settings: how to downsample. Unless `settings.controlnet` is false, this also patches the ControlNets that the
            model holds (those of a diffusers pipeline or a cldm model).
        controlnets: further ControlNets that run with the UNet, if the model does not hold them.

    Returns:
        The patch. Call its `report` to learn what it did. What a caller can rely on:

        - `at` before each sampling step tells where sampling stands. Without it, a pipeline's scheduler tells: the step
          within this run, its number of steps, where image-to-image begins. A bare UNet is followed by its timestep t:
          progress is 1 − t / 1000, a step is counted whenever t falls, and a run begins when t rises. It cannot know a
          run that begins below the last one's end, nor timesteps on another scale: call `at` then.
        - Threads may share a patched model. Copies of it, deep or pickled, are plain models.
        - Projections that are wrapped, replaced or unwrapped under the patch are found again at the next call. What
          does not fit is left whole and counted in the report with its reason.
        - Gradient checkpointing computes each call again as it was, for up to 256 forward calls before a backward pass.
        - While a level has nothing to do, its modules carry no hook. `remove_patch` leaves none.
        - torch.compile in any order recompiles the model at its next call, once: from then on compiled code in this
          process depends on hooks. Under `fullgraph=True` the model raises an error then, because hooks cannot be part
          of a graph. What torch 2.0 compiled runs no hooks and stays dense.

    Raises:
        UnsupportedModelError: the model has no self-attention that ToDo can patch.

    Source: paper section 3.
    """
    _warn(settings, frames=1)
    return put_on(model, settings, controlnets)


def put_on(model: Any, settings: Settings, controlnets: Sequence[nn.Module] = ()) -> Patch:
    """`apply_patch` without warnings, for settings that a page made of all its controls."""
    unet = find_unet(model)
    beside = dict.fromkeys([*find_controlnets(model), *controlnets]) if settings.controlnet else ()
    _remove_all_of(model, (unet, *beside))
    return Patch(unet, settings, tuple(beside), model)


def remove_patch(model: Any) -> bool:
    """Removes the patch from a model, which then computes exactly what it did before.

    Args:
        model: as for `apply_patch`. ControlNets that were patched with it are restored, too, and so is the UNet that
            the patch is on if the model has another one by now.

    Returns:
        Whether the model had a patch.
    """
    try:
        networks: tuple[nn.Module, ...] = (find_unet(model),)
    except UnsupportedModelError:
        networks = ()
    return _remove_all_of(model, networks)


@contextmanager
def patched(model: Any, settings: Settings, controlnets: Sequence[nn.Module] = ()) -> Iterator[Patch]:
    """`apply_patch` for the duration of a `with` block, with the same arguments and errors. A patch that the model had
    before is back after the block."""
    _warn(settings, frames=2)  # contextlib stands between
    with worn(model, settings, controlnets) as patch:
        yield patch


@contextmanager
def worn(model: Any, settings: Settings, controlnets: Sequence[nn.Module] = ()) -> Iterator[Patch]:
    """`patched` without warnings, for settings that a page made of all its controls."""
    try:
        before = getattr(find_unet(model), ATTRIBUTE, None)
    except UnsupportedModelError:
        before = None
    patch = put_on(model, settings, controlnets)
    try:
        yield patch
    finally:
        was_attached = patch.attached
        patch.remove()
        if before is not None and was_attached:
            before.attach()


def _warn(settings: Settings, frames: int) -> None:
    """Warns of settings without effect, at the line that is `frames` further up the stack than the caller's."""
    for problem in settings.ineffective():
        warnings.warn(problem, stacklevel=2 + frames)


def _remove_all_of(model: Any, networks: Sequence[nn.Module]) -> bool:
    found = {patch for network in networks if (patch := getattr(network, ATTRIBUTE, None)) is not None}
    found |= {patch for patch in list(_patches) if patch.is_of(model)}
    for patch in found:
        patch.remove()
    return bool(found)


def _in_controlnets(controlnets: Sequence[nn.Module]) -> Iterator[tuple[nn.Module, list[SelfAttention]]]:
    """The self-attention blocks of ControlNets. A ControlNet without any that ToDo can patch is ignored."""
    for index, network in enumerate(controlnets):
        with suppress(UnsupportedModelError):
            blocks = find_self_attention(network)
            yield network, [replace(block, name=f"controlnet.{index}.{block.name}") for block in blocks]


def _reference(owner: Any) -> Any:
    """A weak reference, where there can be one."""
    try:
        return weakref.ref(owner)
    except TypeError:
        return lambda: None
