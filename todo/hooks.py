"""The hooks of a patch: from the call of a network to the tokens that are selected within it.

- before the network: where sampling stands, and whether gradients are computed.
- before a spatial transformer: which tokens of its exact grid (h, w) are kept. After it: that it has ended.
- on to_q, to_k and to_v of a self-attention block: the kept tokens in place of all, unless the call does not fit.

All of it can be traced by torch.compile.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from .compiled import PerThread, is_compiling, traceable
from .downsample import select
from .progress import Progress
from .report import (
    BYPASSED,
    GRADIENTS,
    MASK,
    NO_GRID,
    NO_QUERY,
    NOT_TOKENS,
    OTHER_BATCH,
    OTHER_TOKENS,
    REPLACED,
    BlockReport,
    Grid,
    Tally,
)
from .unet import SelfAttention

ATTRIBUTE = "_todo_patch"
"""The attribute of a network that holds its patch. In a copy it is None."""


class Hook:
    """A forward hook. It stays behind when its module is copied or pickled, so that the copy is a plain one."""

    def __init__(self, owner: Network, run: Callable[..., Any]):
        self.owner = owner
        self.run = traceable(run)

    def __call__(self, *args: Any) -> Any:
        return self.run(*args)

    def __reduce__(self) -> Any:
        return _StayedBehind, ()


class _StayedBehind:
    """Stands in a copied module where the original has a hook, and removes what was copied at the copy's first call."""

    def __call__(self, module: nn.Module, *_: Any) -> None:
        if vars(module).get(ATTRIBUTE, module) is None:
            delattr(module, ATTRIBUTE)
        _remove(module, lambda hook: isinstance(hook, _StayedBehind))


def _remove(module: nn.Module, is_ours: Callable[[Any], bool]) -> None:
    """Removes hooks that are found on their module: so none is lost whose registration was interrupted. What is noted
    beside a hook goes first, so that it is still found if this is interrupted, too."""
    names = sorted((name for name in vars(module) if name.startswith("_forward_")), key=len, reverse=True)
    tables = [getattr(module, name) for name in names]
    for number in [number for hooks in tables for number, hook in list(hooks.items()) if is_ours(hook)]:
        for hooks in tables:
            hooks.pop(number, None)


class Call:
    """What one thread is computing.

    Attributes:
        reason: why the network's present call is left whole; '' if it need not be.
        records: whether it began where operations are recorded for a backward pass.
        grid, index: of the transformer's present call, and the tokens to keep; no index if it is left whole.
        queries: the batch size of a block's queries; None before them.
        whole, kept: the tokens given to the key projection, and those that were kept, until the values are computed.
    """

    def __init__(self) -> None:
        self.reason = ""
        self.records = False
        self.grid: Grid = (0, 0)
        self.end()

    def end(self) -> None:
        """Ends a call of a transformer, or clears what is left of one that failed."""
        self.index: Tensor | None = None
        self.queries: int | None = None
        self.whole: Tensor | None = None
        self.kept: Tensor | None = None


class Network:
    """The hooks on a UNet or ControlNet."""

    def __init__(self, module: nn.Module, found: Sequence[SelfAttention], progress: Progress):
        self.progress = progress
        self.calls = PerThread(Call)
        self.tally = Tally()
        self._module = module
        self._hooked: list[nn.Module] = []
        grouped = groupby(found, lambda each: id(each.transformer))
        self._transformers = [_Transformer(self, list(blocks)) for _, blocks in grouped]

    def attach(self) -> None:
        """Puts all hooks on."""
        self.hook(self._module.register_forward_pre_hook, self._enter, with_kwargs=True)
        for transformer in self._transformers:
            self.hook(transformer.module.register_forward_pre_hook, transformer.enter, with_kwargs=True)
            self.hook(transformer.module.register_forward_hook, transformer.leave)
        self.refresh()

    def hook(self, register: Any, run: Callable[..., Any], **options: bool) -> None:
        self._hooked.append(register.__self__)
        register(Hook(self, run), **options)

    def unhook(self, module: nn.Module) -> None:
        _remove(module, lambda hook: isinstance(hook, Hook) and hook.owner is self)

    def remove(self) -> None:
        """Takes all hooks off, and releases what a failed call has left in any thread."""
        for module in self._hooked:
            self.unhook(module)
        self.calls = PerThread(Call)

    def refresh(self) -> None:
        """Finds projections again that were wrapped or replaced."""
        for transformer in self._transformers:
            for block in transformer.blocks:
                block.refresh()

    def report(self) -> Iterator[BlockReport]:
        """What happened, by block and grid."""
        for transformer in self._transformers:
            for block in transformer.blocks:
                yield from self.tally.rows(block.where, block, transformer)

    def _enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.progress.enter(_timestep(args, kwargs), _features(args, kwargs))
        if not is_compiling():
            self.refresh()
        call = self.calls.own
        call.end()
        call.records = torch.is_grad_enabled()
        call.reason = GRADIENTS if _needs_gradients(module, args, kwargs) else ""


class _Transformer:
    """The hooks on one spatial transformer."""

    def __init__(self, network: Network, found: Sequence[SelfAttention]):
        self.module = found[0].transformer
        self.blocks = [_Block(network, each) for each in found]
        self.seen: Any = None
        self._network = network
        self._resolution = found[0].resolution

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        call = self._network.calls.own
        call.end()
        features = _features(args, kwargs)
        if features is None:
            self._network.tally.add(self, None, reason=NO_GRID)
            return
        now = self._network.progress.now
        call.grid = operator.index(features.shape[2]), operator.index(features.shape[3])
        # A backward pass computes a transformer again, without the network's call.
        if call.reason or (torch.is_grad_enabled() and not call.records):
            reason = GRADIENTS
        else:
            reason = MASK if kwargs.get("attention_mask") is not None else now.reason
        if not reason:
            call.index, reason = now.index(self._resolution, call.grid, features)
        if reason:
            self._network.tally.add(self, call.grid, reason=reason)

    def leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        call = self._network.calls.own
        if call.index is not None:
            self._network.tally.add(self, call.grid, reason=BYPASSED)
            call.end()


class _Block:
    """The hooks on the projections of one self-attention block."""

    def __init__(self, network: Network, where: SelfAttention):
        self.where = where
        self.seen: Any = None
        self._network = network
        self._hooked: tuple[Any, ...] = ()
        self._reason = ""

    def refresh(self) -> None:
        """Puts the hooks on the present projections."""
        modules = self.where.attention._modules
        present = (modules.get("to_q"), modules.get("to_k"), modules.get("to_v"))
        if present != self._hooked:
            for projection in filter(None, self._hooked):
                self._network.unhook(projection)
            for projection, run in zip(present, (self._queries, self._keys, self._values), strict=True):
                if projection is not None:
                    self._network.hook(projection.register_forward_pre_hook, run)
            self._hooked = present
        self._reason = REPLACED if _is_replaced(present[1]) or _is_replaced(present[2]) else ""

    def _queries(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        call = self._network.calls.own
        if call.index is not None:
            call.whole = None
            call.queries = args[0].shape[0] if args else None

    def _keys(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        call = self._network.calls.own
        index = call.index
        if index is None:
            return None
        tokens: Any = args[0] if args else None
        reason = self._reason or _obstacle(call, tokens)
        if reason:
            call.queries = None
            self._network.tally.add(self, call.grid, reason=reason)
            return None
        self._network.tally.add(self, call.grid, kept=index.shape[0])
        call.whole, call.kept = tokens, select(tokens, index, call.grid)
        return (call.kept, *args[1:])

    def _values(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        call = self._network.calls.own
        whole, kept = call.whole, call.kept
        # Perturbed attention computes values without keys. These stay whole.
        if whole is None:
            return None
        tokens: Any = args[0] if args else None
        call.queries = call.whole = call.kept = None
        if tokens is whole:
            return (kept, *args[1:])
        # A hypernetwork makes separate inputs of the same shape for keys and values.
        if isinstance(tokens, Tensor) and tokens.shape[:2] == whole.shape[:2]:
            return (select(tokens, call.index, call.grid), *args[1:])
        return None


def _obstacle(call: Call, tokens: Any) -> str:
    """Why the inputs of a key projection cannot be downsampled; '' if they can."""
    if not isinstance(tokens, Tensor) or tokens.ndim != 3:
        return NOT_TOKENS
    if call.queries is None:
        return NO_QUERY
    if tokens.shape[0] != call.queries:
        return OTHER_BATCH
    size = call.grid[0] * call.grid[1]
    return "" if tokens.shape[1] >= size and tokens.shape[1] % size == 0 else OTHER_TOKENS


def _is_replaced(projection: Any) -> bool:
    """Whether another extension has replaced the forward of a projection's instance, as ControlNet-LLLite does on A1111
    to add something to each token. Its removal leaves the module's own method there, which does not count; nor do the
    forwards of accelerate and diffusers, which only move or cast weights."""
    forward = projection.__dict__.get("forward") if projection is not None else None
    own = forward is None or getattr(forward, "__self__", None) is projection
    return not own and not any(hasattr(projection, mark) for mark in ("_hf_hook", "_diffusers_hook"))


def _features(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """The feature map or latent (batch, channels, h, w) that a module is called with; None if there is none."""
    features = args[0] if args else kwargs.get("hidden_states", kwargs.get("x", kwargs.get("sample")))
    return features if isinstance(features, Tensor) and features.ndim == 4 else None


def _timestep(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    found = next((kwargs[name] for name in ("timesteps", "timestep", "t") if name in kwargs), None)
    return args[1] if found is None and len(args) > 1 else found


def _needs_gradients(network: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a backward pass may follow a call. Checkpoints of some kinds compute it without recording at first."""
    if any(isinstance(each, Tensor) and each.requires_grad for each in (*args, *kwargs.values())):
        return True
    return torch.is_grad_enabled() and any(each.requires_grad for each in network.parameters())
