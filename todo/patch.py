"""Puts ToDo on a model and takes it off again, by hooks on the inputs of the key and value projections.

Hooking these inputs, and nothing around them, leaves every host's attention code as it is and composes with
whatever else replaces it: a block sees fewer keys and values, and need not know why. What each hook tells:

- the spatial transformer's: the token grid (h, w), exact for any size;
- attn1's: whether a mask is given, whose length would no longer fit;
- to_q's: the batch of the queries, which tiling neighbours change, and that a new attention call begins;
- to_k's: decides, downsamples and counts; to_v's: follows what to_k's decided;
- the UNet's: the timestep, for a patch that nobody tells where sampling stands.
"""

from __future__ import annotations

import inspect
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from todo.downsample import downsample, kept_size, release
from todo.schedule import Moment, factor_at, phase_step, touches
from todo.settings import Settings
from todo.unet import SelfAttention, UnsupportedModelError, find_self_attention, find_unet

# Reasons complete a sentence such as 'left whole …'.
MASK = "with an attention mask"
NO_GRID = "without a 2-D grid"
NO_QUERY = "without queries before the keys"
OTHER_BATCH = "with keys and queries of different batch (tiled by a neighbour)"
OTHER_TOKENS = "with tokens that are no whole multiple of the grid (tiled or merged by a neighbour)"
NOT_TOKENS = "with an input that is not (batch, tokens, channels)"
BYPASSED = "with the key projection bypassed (fused or replaced by a neighbour)"

_ATTRIBUTE = "_todo_patch"
_TRAINING_TIMESTEPS = 1000


@dataclass(frozen=True)
class BlockReport:
    """What happened in one self-attention block at one grid.

    `level` is the block's resolution, 1 for the model's finest self-attention. `tokens` and `kept` are keys per
    grid before and after (the fewest, where a taper changed them); `grid` is (h, w), None where the block was not
    called. `calls` counts the block's calls, `skips` those of them that were left whole, by reason.
    """

    name: str
    level: int
    grid: tuple[int, int] | None
    tokens: int
    kept: int
    calls: int
    skips: dict[str, int]

    @property
    def downsampled(self) -> int:
        """How many calls were downsampled."""
        return self.calls - sum(self.skips.values())


@dataclass
class _Tally:
    calls: int = 0
    kept: float | None = None
    skips: Counter[str] = field(default_factory=Counter)


class _Block:
    """The state of one self-attention block between its hooks, and its tally by grid."""

    def __init__(self, where: SelfAttention, patch: Patch):
        self.where = where
        self.patch = patch
        self.grid: tuple[int, int] | None = None
        self.passages = 0
        self.tallies: dict[tuple[int, int] | None, _Tally] = {}
        parameters = list(inspect.signature(where.attention.forward).parameters)
        self.mask_position = next(
            (parameters.index(name) for name in ("mask", "attention_mask") if name in parameters), None
        )
        self.masked = False
        self.query_batch: int | None = None
        self.key_input: Tensor | None = None
        self.key_output: Tensor | None = None
        self.key_factor = 1.0

    def hooks(self) -> Iterator[RemovableHandle]:
        attention: Any = self.where.attention
        yield attention.register_forward_pre_hook(self.on_attention, with_kwargs=True)
        yield attention.to_q.register_forward_pre_hook(self.on_query)
        yield attention.to_k.register_forward_pre_hook(self.on_key)
        yield attention.to_v.register_forward_pre_hook(self.on_value)

    def on_grid(self, image: Any) -> None:
        is_image = isinstance(image, Tensor) and image.ndim == 4
        self.grid = (image.shape[-2], image.shape[-1]) if is_image else None
        self.passages += 1

    def on_attention(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        mask = kwargs.get("mask", kwargs.get("attention_mask"))
        if mask is None and self.mask_position is not None and len(args) > self.mask_position:
            mask = args[self.mask_position]
        self.masked = mask is not None

    def on_query(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self._begin(args[0].shape[0] if args else None)

    def on_key(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        tokens: Any = args[0] if args else None
        tally = self.tallies.setdefault(self.grid, _Tally())
        tally.calls += 1
        reason = self._misfit(tokens)
        factor = 1.0
        if not reason and self.grid is not None:
            factor, reason = factor_at(self.patch.settings, self.where.resolution, self.grid, self.patch.moment)
        if reason:
            tally.skips[reason] += 1
            return None
        self.key_input, self.key_factor = tokens, factor
        self.key_output = self._downsample(tokens, factor)
        tally.kept = min(tally.kept or math.inf, self._kept(factor))
        return (self.key_output, *args[1:])

    def on_value(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        tokens, key_input, key_output, factor = (
            args[0] if args else None,
            self.key_input,
            self.key_output,
            self.key_factor,
        )
        self._begin(None)
        # Values alone, as perturbed attention asks for them, stay whole.
        if key_input is None:
            return None
        if tokens is key_input:
            return (key_output, *args[1:])
        # A hypernetwork gives keys and values inputs of their own, of one shape.
        if isinstance(tokens, Tensor) and tokens.shape[:2] == key_input.shape[:2]:
            return (self._downsample(tokens, factor), *args[1:])
        return None

    def report(self) -> list[BlockReport]:
        rows: list[BlockReport] = []
        bypassed = self.passages - sum(tally.calls for tally in self.tallies.values())
        for grid, tally in self.tallies.items() or [(None, _Tally())]:
            tokens = grid[0] * grid[1] if grid else 0
            skips = dict(tally.skips)
            calls = tally.calls
            if bypassed > 0 and not rows:
                skips[BYPASSED] = bypassed
                calls += bypassed
            kept = tokens if tally.kept is None else int(tally.kept)
            rows.append(BlockReport(self.where.name, self.where.resolution, grid, tokens, kept, calls, skips))
        return rows

    def _begin(self, query_batch: int | None) -> None:
        """A new attention call: nothing is known of its keys yet."""
        self.query_batch = query_batch
        self.key_input = self.key_output = None

    def _misfit(self, tokens: Any) -> str:
        """Why keys from `tokens` must be left whole, whatever the settings; '' if they need not."""
        if not isinstance(tokens, Tensor) or tokens.ndim != 3:
            return NOT_TOKENS
        if self.query_batch is None:
            return NO_QUERY
        if self.masked:
            return MASK
        if self.grid is None:
            return NO_GRID
        if tokens.shape[0] != self.query_batch:
            return OTHER_BATCH
        if tokens.shape[1] == 0 or tokens.shape[1] % (self.grid[0] * self.grid[1]):
            return OTHER_TOKENS
        return ""

    def _kept(self, factor: float) -> int:
        """Keys that are left of one grid."""
        return math.prod(kept_size(side, factor) for side in self.grid or ())

    def _downsample(self, tokens: Tensor, factor: float) -> Tensor:
        assert self.grid is not None
        settings = self.patch.settings
        return downsample(tokens, self.grid, factor, settings.method, phase_step(settings, self.patch.moment))


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
        self._blocks = [_Block(block, self) for block in reach]
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
        transformers: dict[nn.Module, list[_Block]] = {}
        for block in self._blocks:
            transformers.setdefault(block.where.transformer, []).append(block)
            yield from block.hooks()
        for transformer, blocks in transformers.items():
            yield transformer.register_forward_pre_hook(_grid_hook(blocks), with_kwargs=True)

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


def _grid_hook(blocks: list[_Block]) -> Any:
    def on_transformer(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        image = args[0] if args else kwargs.get("hidden_states", kwargs.get("x"))
        for block in blocks:
            block.on_grid(image)

    return on_transformer


def _depends_on_time(settings: Settings) -> bool:
    return settings.phase == "cycle" or settings.taper or settings.start > 0 or settings.end < 1
