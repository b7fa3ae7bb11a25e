"""PyTorch's scaled_dot_product_attention for ldm's UNets."""

from __future__ import annotations

from types import MethodType
from typing import Any

from torch import Tensor, nn
from torch.nn import functional


def use_sdpa(unet: nn.Module) -> None:
    """Makes ldm's attention use PyTorch's scaled_dot_product_attention.

    ldm's own forward stores the whole score matrix: at 1024×1024 that is 8 heads × 16384² × 4 bytes, 8.6 GB, for every
    block of the finest level. No host does so by default, and a comparison with it would flatter ToDo.
    """
    from ldm.modules.attention import BasicTransformerBlock

    for block in unet.modules():
        if isinstance(block, BasicTransformerBlock):
            for attention in (block.attn1, block.attn2):
                attention.forward = MethodType(_sdpa_forward, attention)


def _sdpa_forward(attention: Any, x: Tensor, context: Tensor | None = None) -> Tensor:
    """ldm's CrossAttention.forward with another kernel. Projections are called as modules, so that their hooks run.

    Args:
        x: (batch, queries, channels).
        context: (batch, keys, context channels); None for self-attention.

    Returns:
        (batch, queries, channels).
    """
    context = x if context is None else context
    query, key, value = (
        projected.unflatten(2, (attention.heads, -1)).transpose(1, 2)
        for projected in (attention.to_q(x), attention.to_k(context), attention.to_v(context))
    )
    mixed = functional.scaled_dot_product_attention(query, key, value)
    return attention.to_out(mixed.transpose(1, 2).flatten(2))
