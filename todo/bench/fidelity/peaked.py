"""How peaked the model's attention is: over how many keys a query's weights are spread. What a method loses depends on
it, and so does what is found with one model for another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from todo.bench.painter.painter import Painter
from todo.bench.painter.sampler import Order, draw
from todo.unet import find_self_attention

_THINNED = 7
"""One query in so many is looked at: of the sides that are measured it divides none, so that all columns are seen."""


def effective_share(painter: Painter, order: Order) -> list[float]:
    """Of the finest level's keys, how many count: e^entropy of a query's weights over their number, the mean over
    some of the queries, all heads, blocks and calls, for each picture of the order. 1 where all count alike."""
    shares: list[Tensor] = []
    with _watching(painter.unet, shares):
        draw(painter, order)
    return torch.stack(shares).mean(0).tolist()


@contextmanager
def _watching(unet: nn.Module, shares: list[Tensor]) -> Iterator[None]:
    handles = []
    for block in find_self_attention(unet):
        if block.resolution == 1:
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
