"""How concentrated the model's attention is: over how many keys a query's weights spread. What a method loses depends
on it, and so does what a result with one model says about another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import peers
from benchmarks.tiny.model import TinyModel
from benchmarks.tiny.sampler import Request, sample

_THINNED = 7
"""Every seventh query counts. 7 divides none of the sides that are measured, so all columns are covered."""


def effective_share(model: TinyModel, request: Request) -> list[float]:
    """The share of the finest level's keys that count, for each image of the request; 1 where all count alike.

    It is e^entropy of a query's weights over the number of keys, averaged over some queries and all heads, blocks and
    calls."""
    shares: list[Tensor] = []
    with _watching(model.unet, shares):
        sample(model, request)
    return torch.stack(shares).mean(0).tolist()


@contextmanager
def _watching(unet: nn.Module, shares: list[Tensor]) -> Iterator[None]:
    handles: list[Any] = []
    for block in peers.finest(unet):
        handles += _hooks(block.attention, shares)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hooks(attention: Any, shares: list[Tensor]) -> list[Any]:
    queries: list[Tensor] = []

    def heads(projected: Tensor) -> Tensor:
        return projected.unflatten(2, (attention.heads, -1)).transpose(1, 2)

    def query(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        queries[:] = [heads(output)]

    def key(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        keys = heads(output)
        scores = (queries.pop()[:, :, ::_THINNED] @ keys.transpose(2, 3)) * keys.shape[3] ** -0.5
        logarithms = scores.log_softmax(3)
        entropy = -(logarithms.exp() * logarithms).sum(3)
        shares.append((entropy.exp() / keys.shape[2]).mean((1, 2)))

    return [attention.to_q.register_forward_hook(query), attention.to_k.register_forward_hook(key)]
