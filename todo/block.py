"""The hooks on one self-attention block, the state that they share, and the count of its calls.

Each hook has one task:

- on the spatial transformer: reads the token grid (h, w), which is exact for any image size.
- on attn1: detects an attention mask, whose length would no longer match the keys.
- on to_q: marks the start of an attention call and reads the batch size of the queries, which tiling changes.
- on to_k: decides whether to downsample, downsamples and counts.
- on to_v: does what the hook on to_k decided.
"""

from __future__ import annotations

import inspect
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .downsample import downsample, kept_tokens
from .schedule import Moment, factor_at, phase_step
from .settings import Settings
from .unet import SelfAttention

# Each reason completes a sentence such as 'left whole …'. Without commas and colons, infotext needs no quotes.
MASK = "with an attention mask"
NO_GRID = "without a known token grid"
NO_QUERY = "with keys computed before the queries"
OTHER_BATCH = "with different batch sizes of keys and queries (tiled by HyperTile or another extension)"
OTHER_TOKENS = (
    "with a token count that is not a multiple of the grid (tiled or merged by HyperTile or token merging or another "
    "extension)"
)
NOT_TOKENS = "with an input that is not batch × tokens × channels"
REPLACED = "with projections replaced by another extension that may need every token"
BYPASSED = "with the key projection bypassed (fused or replaced by another extension)"


def untraced(hook: Callable[..., Any]) -> Callable[..., Any]:
    """Excludes a hook from tracing by torch.compile.

    If the hook were traced, its changing counters would force a recompilation at every step.
    """
    # Importing the compiler takes a second. If nobody has imported it, nothing is compiled yet.
    dynamo: Any = sys.modules.get("torch._dynamo")
    return dynamo.disable(hook) if dynamo else hook


@dataclass(frozen=True)
class BlockReport:
    """What happened in one self-attention block at one grid size.

    Attributes:
        name: path of the block within its UNet; for a ControlNet it begins with 'controlnet.' and a number.
        level: 1 for the model's finest self-attention level, 2 for the level at half that size, and so on.
        grid: the token grid (h, w); None if the block was not called.
        tokens: keys per grid before downsampling.
        kept: keys per grid after downsampling; the smallest number if a taper changed it.
        calls: number of attention calls.
        skips: how many of these calls were left whole, by reason.
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
        """The number of calls that were downsampled."""
        return self.calls - sum(self.skips.values())


def skips(rows: Iterable[BlockReport]) -> Counter[str]:
    """The number of calls that were left whole, by reason, over all `rows`."""
    total: Counter[str] = Counter()
    for row in rows:
        total.update(row.skips)
    return total


def _is_replaced(projection: nn.Module) -> bool:
    """Whether another extension has replaced the forward of this module instance.

    ControlNet-LLLite does so on A1111, to add something to each token. When it removes itself, it assigns the module's
    own method to the instance, which does not count. Nor do the forwards of accelerate and diffusers, which only move
    or cast weights.
    """
    forward = vars(projection).get("forward")
    own = forward is None or getattr(forward, "__self__", None) is projection
    return not own and not any(hasattr(projection, mark) for mark in ("_hf_hook", "_diffusers_hook"))


@dataclass
class _Tally:
    calls: int = 0
    kept: float | None = None
    skips: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class _Keys:
    """The input of the key projection in the current attention call, before and after downsampling by `factor`."""

    whole: Tensor
    kept: Tensor
    factor: float


class Block:
    """One self-attention block: the state that its hooks share, and its call counts by grid.

    Args:
        where: the block.
        settings: how to downsample.
        moment: returns the current point of sampling.
    """

    def __init__(self, where: SelfAttention, settings: Settings, moment: Callable[[], Moment]):
        self.where = where
        self.settings = settings
        self.moment = moment
        self.grid: tuple[int, int] | None = None
        self.masked = False
        self.query_batch: int | None = None
        self.keys: _Keys | None = None
        self.transformer_calls = 0
        self.tallies: dict[tuple[int, int] | None, _Tally] = {}
        names = list(inspect.signature(where.attention.forward).parameters)
        self.mask_position = next((names.index(name) for name in ("mask", "attention_mask") if name in names), None)

    def hooks(self) -> Iterator[RemovableHandle]:
        """Registers the hooks and yields a handle to remove each."""
        attention: Any = self.where.attention
        yield self.where.transformer.register_forward_pre_hook(untraced(self.on_transformer), with_kwargs=True)
        yield attention.register_forward_pre_hook(untraced(self.on_attention), with_kwargs=True)
        yield attention.to_q.register_forward_pre_hook(untraced(self.on_query))
        yield attention.to_k.register_forward_pre_hook(untraced(self.on_key))
        yield attention.to_v.register_forward_pre_hook(untraced(self.on_value))

    def on_transformer(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        features: Any = args[0] if args else kwargs.get("hidden_states", kwargs.get("x"))
        is_map = isinstance(features, Tensor) and features.ndim == 4
        self.grid = (features.shape[-2], features.shape[-1]) if is_map else None
        self.transformer_calls += 1

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
        factor, reason = 1.0, self._obstacle(tokens)
        if not reason and self.grid is not None:
            factor, reason = factor_at(self.settings, self.where.resolution, self.grid, self.moment())
        if reason:
            tally.skips[reason] += 1
            return None
        assert self.grid is not None  # an unknown grid is an obstacle
        self.keys = _Keys(tokens, self._downsample(tokens, factor), factor)
        tally.kept = min(tally.kept or math.inf, kept_tokens(self.grid, factor))
        return (self.keys.kept, *args[1:])

    def on_value(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        tokens: Any = args[0] if args else None
        keys = self.keys
        self._begin(None)
        # Perturbed attention computes values without keys. These stay whole.
        if keys is None:
            return None
        if tokens is keys.whole:
            return (keys.kept, *args[1:])
        # A hypernetwork makes separate inputs of the same shape for keys and values.
        if isinstance(tokens, Tensor) and tokens.shape[:2] == keys.whole.shape[:2]:
            return (self._downsample(tokens, keys.factor), *args[1:])
        return None

    def forget(self) -> None:
        """Releases the tokens of a call that was interrupted."""
        self._begin(None)

    def report(self) -> list[BlockReport]:
        """One row for each grid size that occurred; a single row without a grid if the block was not called."""
        rows: list[BlockReport] = []
        bypassed = self.transformer_calls - sum(tally.calls for tally in self.tallies.values())
        for grid, tally in self.tallies.items() or [(None, _Tally())]:
            skips, calls = dict(tally.skips), tally.calls
            if bypassed > 0 and not rows:
                skips[BYPASSED] = bypassed
                calls += bypassed
            tokens = grid[0] * grid[1] if grid else 0
            kept = tokens if tally.kept is None else int(tally.kept)
            rows.append(BlockReport(self.where.name, self.where.resolution, grid, tokens, kept, calls, skips))
        return rows

    def _begin(self, query_batch: int | None) -> None:
        """Starts a new attention call, or ends one if `query_batch` is None."""
        self.query_batch = query_batch
        self.keys = None

    def _obstacle(self, tokens: Any) -> str:
        """Why `tokens` cannot be downsampled, whatever the settings; '' if they can."""
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
        attention: Any = self.where.attention
        if _is_replaced(attention.to_k) or _is_replaced(attention.to_v):
            return REPLACED
        if tokens.shape[1] == 0 or tokens.shape[1] % (self.grid[0] * self.grid[1]):
            return OTHER_TOKENS
        return ""

    def _downsample(self, tokens: Tensor, factor: float) -> Tensor:
        assert self.grid is not None
        step = phase_step(self.settings, self.moment())
        return downsample(tokens, self.grid, factor, self.settings.method, step)
