"""Patches a model with ToDo and removes the patch again, through hooks on the inputs of the key and value projections.

Because only these inputs change, the attention code of each host stays as it is, and so does any replacement of it by
other extensions. It simply receives fewer keys and values.
"""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from .compiled import depend_on_hooks
from .hooks import ATTRIBUTE, Network
from .progress import Progress
from .report import BlockReport, in_words
from .schedule import Moment, touches
from .settings import Settings
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
        before: the patch that the model had before the `with` block of this one.
        is_over: whether that block has ended.
    """

    before: Patch | None = None
    is_over = False

    def __init__(self, unet: nn.Module, settings: Settings, controlnets: Sequence[nn.Module] = (), owner: Any = None):
        self.networks = (unet, *controlnets)
        self.settings = settings
        self._owner = _reference(owner)
        device = next((parameter.device for parameter in unet.parameters()), torch.device("cpu"))
        self._progress = Progress(settings, device, self._owner)
        self._attached: list[Network] = []
        self._reporting: list[Network] = []
        self.attach()

    @property
    def moment(self) -> Moment:
        """The current point of sampling, as this thread knows it."""
        return self._progress.now.moment

    def at(self, step: int, steps: int, hires: bool = False) -> None:
        """Sets the current point of sampling. Call it before the UNet calls of each sampling step. It holds for the
        calling thread or, if that one does not call the model itself, for the others. When all steps are told, the
        next run is followed until `at` is called again.

        Args:
            step: the number of denoiser calls made so far in this pass. It also selects the phase.
            steps: the total number of denoiser calls in this pass. Progress is step / steps, clamped to [0, 1].
            hires: whether this is the hires pass of hires. fix.

        Raises:
            TypeError: `step` or `steps` is not a whole number.
        """
        self._progress.tell(step, steps, hires)
        for network in self._attached:
            network.refresh()

    def report(self) -> list[BlockReport]:
        """What was downsampled and what was skipped since the patch was applied, by block and grid size."""
        return [row for network in self._reporting for row in network.report()]

    def __str__(self) -> str:
        """The report, a line for each level and grid size."""
        return "\n".join(in_words(self.report()))

    @property
    def attached(self) -> bool:
        """Whether this patch is still on all its networks."""
        return all(getattr(network, ATTRIBUTE, None) is self for network in self.networks)

    def attach(self) -> None:
        """Puts the hooks on. If that is interrupted, none stays."""
        depend_on_hooks()
        unet, *controlnets = self.networks
        try:
            for network, blocks in [(unet, find_self_attention(unet)), *_in_controlnets(controlnets)]:
                reached = [block for block in blocks if touches(self.settings, block.resolution)]
                self._attached.append(Network(network, reached, self._progress))
                self._attached[-1].attach()
            self._reporting += self._attached
            for network in self.networks:
                setattr(network, ATTRIBUTE, self)
            _patches.add(self)
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        """Removes all hooks. The networks then compute exactly what they did before. A second call does nothing."""
        depend_on_hooks()
        for hooked in self._attached:
            hooked.remove()
        for network in self.networks:
            if getattr(network, ATTRIBUTE, None) is self:
                delattr(network, ATTRIBUTE)
        _patches.discard(self)
        self._attached = []

    def is_of(self, model: Any) -> bool:
        """Whether the patch was applied to this model, whatever UNet the model has now."""
        return self._owner() is model

    def __reduce__(self) -> Any:
        return type(None), ()


_SWITCHING = threading.RLock()
"""Two threads may put patches on one model, or take them off."""

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

        - `at` before each sampling step tells where sampling stands. Without it, a run is recognised by its timesteps.
          If they are those of a scheduler that the pipeline holds, in their order, it tells the step within this run,
          the number of steps, and where image-to-image begins. Otherwise the timestep t alone tells: progress is
          1 − t / 1000, a step is counted whenever t falls, and a run begins when t rises, unless it began at t ≤ 10: it
          is one backwards then. What begins below the last run's end or counts on another scale needs `at`.
        - Threads may share a patched model. Copies of it, deep or pickled, are plain models.
        - Projections that are wrapped, replaced or unwrapped under the patch are found again at the next call. What
          does not fit is left whole and counted in the report with its reason.
        - A call in which gradients are computed is left whole.
        - torch.compile may come before or after. From torch 2.13 on, after `at`, the model has no graph break that it
          does not have dense, and each size is compiled twice, acting and not; with a taper at each step. A model that
          nobody tells has one break, at its entry. Before, from torch 2.1 on, the graph breaks at every hook. From the
          first patch on, compiled code in this process depends on hooks, and what was compiled before is compiled anew.

    Raises:
        UnsupportedModelError: the model has no self-attention that ToDo can patch.
        TypeError: `settings` is not a `Settings`.

    Source: paper section 3.
    """
    _warn(settings, frames=1)
    return apply_quietly(model, settings, controlnets)


def apply_quietly(model: Any, settings: Settings, controlnets: Sequence[nn.Module] = ()) -> Patch:
    """`apply_patch` without warnings, for settings that a page made of all its controls."""
    unet = find_unet(model)
    beside = dict.fromkeys([*find_controlnets(model), *controlnets]) if settings.controlnet else ()
    networks = (unet, *beside)
    try:
        with _SWITCHING:
            _remove_all_of(model, networks)
            return Patch(unet, settings, tuple(beside), model)
    except BaseException:
        _remove_all_of(model, networks)
        raise


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
    with patched_quietly(model, settings, controlnets) as patch:
        yield patch


@contextmanager
def patched_quietly(model: Any, settings: Settings, controlnets: Sequence[nn.Module] = ()) -> Iterator[Patch]:
    """`patched` without warnings, for settings that a page made of all its controls."""
    before = getattr(find_unet(model), ATTRIBUTE, None)
    patch = apply_quietly(model, settings, controlnets)
    patch.before = before
    try:
        yield patch
    finally:
        with _SWITCHING:
            was_attached, patch.is_over = patch.attached, True
            patch.remove()
            while before is not None and before.is_over:
                before = before.before
            if before is not None and was_attached:
                before.attach()


def _warn(settings: Settings, frames: int) -> None:
    """Warns of settings without effect, at the line that is `frames` further up the stack than the caller's.

    Raises:
        TypeError: they are no settings.
    """
    if not isinstance(settings, Settings):
        raise TypeError(f"settings must be todo.Settings, not {type(settings).__name__}; for a dict, use from_dict")
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
