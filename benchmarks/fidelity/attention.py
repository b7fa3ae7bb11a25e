"""How concentrated a model's attention is: over how many keys a query's weights spread.

The error of a method depends on it. So does how far a result with one model applies to another.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from benchmarks import peers
from benchmarks.hooks import attached
from benchmarks.tiny.model import TinyModel
from benchmarks.tiny.sampler import Request, sample

_STRIDE = 7
"""Only every seventh query is measured. 7 divides none of the measured sides, so all columns are covered."""


def effective_share(model: TinyModel, request: Request) -> list[float]:
    """The effective share of the finest level's keys, for each image of the request; 1 if all weights are equal.

    It is e^entropy of a query's weights over the number of keys, averaged over heads, blocks, calls and every seventh
    query.
    """
    shares: list[Tensor] = []
    with attached(hook for block in peers.finest(model.unet) for hook in _hooks(block.attention, shares)):
        sample(model, request)
    return torch.stack(shares).mean(0).tolist()


def _hooks(attention: Any, shares: list[Tensor]) -> Iterator[RemovableHandle]:
    """Registers hooks that append a block's share in each call, (images,), to `shares`."""
    queries: list[Tensor] = []

    def heads(projected: Tensor) -> Tensor:
        return projected.unflatten(2, (attention.heads, -1)).transpose(1, 2)

    def store_queries(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        queries[:] = [heads(output)]

    def append_share(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        keys = heads(output)
        scores = (queries.pop()[:, :, ::_STRIDE] @ keys.transpose(2, 3)) * keys.shape[3] ** -0.5
        logarithms = scores.log_softmax(3)
        entropy = -(logarithms.exp() * logarithms).sum(3)
        shares.append((entropy.exp() / keys.shape[2]).mean((1, 2)))

    yield attention.to_q.register_forward_hook(store_queries)
    yield attention.to_k.register_forward_hook(append_share)
