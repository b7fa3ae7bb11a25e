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
from benchmarks.sampling import ImageModel, Request

_STRIDE = 7
"""Only every seventh query is measured. 7 divides none of the measured sides, so all columns are covered."""

_QUERIES = 1024
"""About as many queries are measured where every seventh would be more: all weights of those would fill the memory."""


def effective_share(image_model: ImageModel, request: Request) -> float:
    """The effective share of the finest level's keys in the images of a request; 1 if all weights are equal.

    It is e^entropy of a query's weights over the number of keys, averaged over heads, blocks, calls and a part of the
    queries. With guidance, calls with the prompt and without it count alike.
    """
    shares: list[Tensor] = []
    with attached(hook for block in peers.finest(image_model.unet) for hook in _hooks(block.attention, shares)):
        image_model.sample(request)
    return float(torch.stack(shares).mean())


def stride(tokens: int) -> int:
    """Every how many-th query is measured. The number is odd, so that it covers all columns of most grids."""
    return max(_STRIDE, tokens // _QUERIES | 1)


def _hooks(attention: Any, shares: list[Tensor]) -> Iterator[RemovableHandle]:
    """Registers hooks that append a block's share in each call, (images,), to `shares`."""
    queries: list[Tensor] = []

    def heads(projected: Tensor) -> Tensor:
        return projected.unflatten(2, (attention.heads, -1)).transpose(1, 2)

    def store_queries(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        queries[:] = [heads(output)]

    def append_share(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        keys = heads(output)
        measured = queries.pop()
        measured = measured[:, :, :: stride(measured.shape[2])]
        by_head = [_share(measured[:, head], keys[:, head]) for head in range(attention.heads)]
        shares.append(torch.stack(by_head).mean(0))

    yield attention.to_q.register_forward_hook(store_queries)
    yield attention.to_k.register_forward_hook(append_share)


def _share(queries: Tensor, keys: Tensor) -> Tensor:
    """The share of one head, (batch,). Heads are taken one by one, since the weights of a large image are large."""
    scores = (queries @ keys.transpose(1, 2)).float() * keys.shape[2] ** -0.5
    logarithms = scores.log_softmax(2)
    entropy = -(logarithms.exp() * logarithms).sum(2)
    return (entropy.exp() / keys.shape[1]).mean(1)
