"""One self-attention block under ToDo: its hooks, what passes between them, and its tally.

What each hook tells:

- the spatial transformer's: the token grid (h, w), exact for any size;
- attn1's: whether a mask is given, whose length would no longer fit;
- to_q's: the batch of the queries, which tiling neighbours change, and that a new attention call begins;
- to_k's: decides, downsamples and counts; to_v's: follows what to_k's decided.
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

from todo.downsample import downsample, kept_tokens
from todo.schedule import Moment, factor_at, phase_step
from todo.settings import Settings
from todo.unet import SelfAttention

# Reasons complete a sentence such as 'left whole …'.
MASK = "with an attention mask"
NO_GRID = "without a 2-D grid"
NO_QUERY = "without queries before the keys"
OTHER_BATCH = "with keys and queries of different batch (tiled by a neighbour)"
OTHER_TOKENS = "with tokens that are no whole multiple of the grid (tiled or merged by a neighbour)"
NOT_TOKENS = "with an input that is not (batch, tokens, channels)"
REPLACED = "with projections replaced by a neighbour, which may count on every token"
BYPASSED = "with the key projection bypassed (fused or replaced by a neighbour)"


def untraced(hook: Callable[..., Any]) -> Callable[..., Any]:
    """A hook that torch.compile calls as it is; traced, its counting would be compiled anew from step to step.

    The compiler takes a second to import, and without it nothing is compiled yet.
    """
    dynamo: Any = sys.modules.get("torch._dynamo")
    return dynamo.disable(hook) if dynamo else hook


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


def skips(rows: Iterable[BlockReport]) -> Counter[str]:
    """Calls left whole, by reason."""
    found: Counter[str] = Counter()
    for row in rows:
        found.update(row.skips)
    return found


def _is_replaced(projection: nn.Module) -> bool:
    """Whether a neighbour put a forward of its own on this very module, as ControlNet-LLLite does on A1111 to add
    something to each token. Taking it off again, it leaves the module's own method there; and what accelerate and
    diffusers put there only moves weights or casts them."""
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
    """What the keys of the present attention call are made from: before, after, and by which factor."""

    whole: Tensor
    kept: Tensor
    factor: float


class Block:
    """One self-attention block: the state between its hooks, and its tally by grid.

    `settings` say what to do, `moment` tells where sampling stands.
    """

    def __init__(self, where: SelfAttention, settings: Settings, moment: Callable[[], Moment]):
        self.where = where
        self.settings = settings
        self.moment = moment
        self.grid: tuple[int, int] | None = None
        self.masked = False
        self.query_batch: int | None = None
        self.keys: _Keys | None = None
        self.passages = 0
        self.tallies: dict[tuple[int, int] | None, _Tally] = {}
        names = list(inspect.signature(where.attention.forward).parameters)
        self.mask_position = next((names.index(name) for name in ("mask", "attention_mask") if name in names), None)

    def hooks(self) -> Iterator[RemovableHandle]:
        """Registers the hooks; a handle of each takes it off."""
        attention: Any = self.where.attention
        yield self.where.transformer.register_forward_pre_hook(untraced(self.on_transformer), with_kwargs=True)
        yield attention.register_forward_pre_hook(untraced(self.on_attention), with_kwargs=True)
        yield attention.to_q.register_forward_pre_hook(untraced(self.on_query))
        yield attention.to_k.register_forward_pre_hook(untraced(self.on_key))
        yield attention.to_v.register_forward_pre_hook(untraced(self.on_value))

    def on_transformer(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        image: Any = args[0] if args else kwargs.get("hidden_states", kwargs.get("x"))
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
        factor, reason = 1.0, self._misfit(tokens)
        if not reason and self.grid is not None:
            factor, reason = factor_at(self.settings, self.where.resolution, self.grid, self.moment())
        if reason:
            tally.skips[reason] += 1
            return None
        assert self.grid is not None  # else it would not have fitted
        self.keys = _Keys(tokens, self._downsample(tokens, factor), factor)
        tally.kept = min(tally.kept or math.inf, kept_tokens(self.grid, factor))
        return (self.keys.kept, *args[1:])

    def on_value(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        tokens: Any = args[0] if args else None
        keys = self.keys
        self._begin(None)
        # Values alone, as perturbed attention asks for them, stay whole.
        if keys is None:
            return None
        if tokens is keys.whole:
            return (keys.kept, *args[1:])
        # A hypernetwork gives keys and values inputs of their own, of one shape.
        if isinstance(tokens, Tensor) and tokens.shape[:2] == keys.whole.shape[:2]:
            return (self._downsample(tokens, keys.factor), *args[1:])
        return None

    def forget(self) -> None:
        """Lets go of the tokens of a call that was broken off."""
        self._begin(None)

    def report(self) -> list[BlockReport]:
        """One row for each grid that the block saw; one without a grid if it saw none."""
        rows: list[BlockReport] = []
        bypassed = self.passages - sum(tally.calls for tally in self.tallies.values())
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
        """A new attention call: nothing is known of its keys yet."""
        self.query_batch = query_batch
        self.keys = None

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
