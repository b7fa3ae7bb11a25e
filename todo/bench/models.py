"""The UNet that is measured: SD1.5's architecture from the real ldm package, with random weights.

Time does not depend on what the weights are, so nothing has to be downloaded.
"""

from __future__ import annotations

import math
from types import MethodType
from typing import Any

import torch
from ldm.modules.attention import BasicTransformerBlock
from ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor, nn
from torch.nn import functional

from todo.families import FAMILIES

LAYOUT = FAMILIES["sd1"]
_HEADS = 8
_SEED = 0


def best_device() -> tuple[torch.device, torch.dtype]:
    """The first CUDA device with float16, as hosts use it, else the CPU with float32."""
    if torch.cuda.is_available():
        return torch.device("cuda"), torch.float16
    return torch.device("cpu"), torch.float32


def build_unet(device: torch.device, dtype: torch.dtype, width: int = LAYOUT.channels) -> nn.Module:
    """SD1.5's UNet with random weights and PyTorch's attention; the same weights on every call.

    Args:
        width: channels of the first level, a multiple of 32; SD1.5's own is 320.

    Returns:
        The UNet, called as unet(latent (batch, 4, h, w), timesteps (batch,), context (batch, 77, 768)).
    """
    unet = architecture(dtype, width).to_empty(device=device).eval()
    _fill(unet)
    _use_sdpa(unet)
    return unet


def architecture(dtype: torch.dtype, width: int = LAYOUT.channels) -> nn.Module:
    """SD1.5's UNet on the meta device: without weights, where ldm's own initialisation, which would be overwritten,
    costs nothing."""
    with torch.device("meta"):
        unet: nn.Module = UNetModel(
            image_size=64,  # ldm stores it and never reads it
            in_channels=4,
            out_channels=4,
            model_channels=width,
            channel_mult=LAYOUT.multipliers,
            num_res_blocks=LAYOUT.residual_blocks,
            attention_resolutions=[2**level for level, depth in enumerate(LAYOUT.depths) if depth],
            num_heads=_HEADS,
            use_spatial_transformer=True,
            transformer_depth=1,
            context_dim=LAYOUT.context,
            use_checkpoint=False,
            use_fp16=dtype == torch.float16,
            legacy=False,
        )
    return unet.to(dtype)


def _fill(unet: nn.Module) -> None:
    """Random weights of variance 1 / fan-in, which keep activations near 1 at every depth, so that float16 does
    not overflow; norms and biases do nothing."""
    device = next(unet.parameters()).device
    generator = torch.Generator(device).manual_seed(_SEED)
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            if parameter.ndim > 1:
                bound = math.sqrt(3 / parameter[0].numel())
                parameter.uniform_(-bound, bound, generator=generator)
            else:
                parameter.fill_(float(name.endswith("weight")))


def _use_sdpa(unet: nn.Module) -> None:
    """Gives ldm's attention the kernel that hosts use, PyTorch's scaled_dot_product_attention.

    ldm's own forward writes out the whole matrix of scores: at 1024×1024 that is 8 heads × 16384² × 4 bytes, 8.6 GB,
    for every block of the finest level. No host still does so, and to measure against it would flatter ToDo.
    """
    for block in unet.modules():
        if isinstance(block, BasicTransformerBlock):
            for attention in (block.attn1, block.attn2):
                attention.forward = MethodType(_sdpa_forward, attention)


def _sdpa_forward(attention: Any, x: Tensor, context: Tensor | None = None) -> Tensor:
    """ldm's CrossAttention.forward but for the kernel. The projections are called as modules, so that hooks fire.

    Args:
        x: (batch, queries, channels).
        context: (batch, keys, context channels); None for self-attention.
    """
    context = x if context is None else context
    query, key, value = (
        projected.unflatten(2, (attention.heads, -1)).transpose(1, 2)
        for projected in (attention.to_q(x), attention.to_k(context), attention.to_v(context))
    )
    mixed = functional.scaled_dot_product_attention(query, key, value)
    return attention.to_out(mixed.transpose(1, 2).flatten(2))
