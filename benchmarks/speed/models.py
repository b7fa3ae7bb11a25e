"""The measured UNets: the real architectures of SD1.5, SD2 and SDXL with random weights.

Time does not depend on the weights, so nothing has to be downloaded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.method import LatentSize
from benchmarks.noise import BETAS
from benchmarks.sdpa import use_sdpa
from todo import Patch
from todo.families import FAMILIES
from todo.prediction import LATENT_SCALE

_SD1_HEADS = 8
_HEAD_CHANNELS = 64
"""Channels per head in SD2 and SDXL."""

_WEIGHT_SEED, _NOISE_SEED = 0, 1
_TEXT_TOKENS = 77
_TIMESTEP = 500.0
_POOLED_TEXT, _TIME_IDS, _TIME_ID_CHANNELS = 1280, 6, 256
"""SDXL's additional conditioning: channels of the pooled text, number of sizes and crops, channels of each of them."""


@dataclass(frozen=True)
class Inputs:
    """The arguments of a UNet call.

    Attributes:
        latent: (batch, 4, h, w).
        timesteps: (batch,).
        context: the text's embedding, (batch, 77, channels).
        extras: further keyword arguments of the UNet.
    """

    latent: Tensor
    timesteps: Tensor
    context: Tensor
    extras: dict[str, Any]


def build_unet(family: str, device: torch.device, dtype: torch.dtype, width: int | None = None) -> nn.Module:
    """A family's UNet with random weights and PyTorch's attention. The weights are the same on every call.

    Args:
        family: 'sd1', 'sd2' or 'sdxl'.
        width: channels of the first level, a multiple of 32; None for the family's own.
    """
    unet = architecture(family, dtype, width).to_empty(device=device)
    _fill(unet)
    return unet


def architecture(family: str, dtype: torch.dtype, width: int | None = None) -> nn.Module:
    """The same on the meta device, without weights. There the libraries' initialisation, which would be overwritten,
    costs nothing."""
    build = _diffusers_unet if family == "sdxl" else _ldm_unet
    with torch.device("meta"):
        return build(family, dtype, width or FAMILIES[family].channels).eval().requires_grad_(False)


def latent_size(size: tuple[int, int]) -> LatentSize:
    """The latent's (height, width) for an image of `size` = (width, height) in pixels."""
    width, height = size
    return height // LATENT_SCALE, width // LATENT_SCALE


def inputs(unet: nn.Module, family: str, size: tuple[int, int], batch: int = 1) -> Inputs:
    """Inputs for `batch` images of `size` = (width, height) in pixels. The noise is the same on every call and
    device."""
    parameter = next(unet.parameters())
    generator = torch.Generator().manual_seed(_NOISE_SEED)

    def noise(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, generator=generator).to(parameter)

    width, height = size
    latent = noise(4, *latent_size(size))
    context = noise(_TEXT_TOKENS, FAMILIES[family].context)
    extras: dict[str, Any] = {}
    if family == "sdxl":
        ids = torch.tensor([[height, width, 0, 0, height, width]] * batch).to(parameter)
        extras = {"added_cond_kwargs": {"text_embeds": noise(_POOLED_TEXT), "time_ids": ids}, "return_dict": False}
    return Inputs(latent, torch.full((batch,), _TIMESTEP, device=parameter.device), context, extras)


def call(unet: nn.Module, arguments: Inputs) -> Tensor:
    """Calls the UNet and returns the predicted noise, in the latent's shape.

    Below float32 it runs under autocast, as in A1111.
    """
    parameter = next(unet.parameters())
    lower = parameter.dtype != torch.float32
    with torch.inference_mode(), torch.autocast(parameter.device.type, parameter.dtype if lower else None, lower):
        output = unet(arguments.latent, arguments.timesteps, arguments.context, **arguments.extras)
    return output[0] if isinstance(output, tuple) else output


def sample(unet: nn.Module, arguments: Inputs, steps: int, patch: Patch | None) -> Tensor:
    """Runs a whole sampling loop with the Euler sampler and returns the latent after the last step.

    Args:
        arguments: for the UNet. Sampling starts from their latent, scaled to the schedule's first sigma.
        patch: of ToDo, if it is applied. It is told the sampling step before each call.
    """
    from diffusers import EulerDiscreteScheduler

    scheduler: Any = EulerDiscreteScheduler(**BETAS)
    scheduler.set_timesteps(steps, device=arguments.latent.device)
    latent = arguments.latent * scheduler.init_noise_sigma
    for step, timestep in enumerate(scheduler.timesteps):
        if patch:
            patch.at(step, steps)
        scaled = scheduler.scale_model_input(latent, timestep)
        noise = call(unet, replace(arguments, latent=scaled, timesteps=timestep.expand(latent.shape[0])))
        with torch.inference_mode():
            latent = scheduler.step(noise, timestep, latent).prev_sample
    return latent


def _ldm_unet(family: str, dtype: torch.dtype, width: int) -> nn.Module:
    from ldm.modules.diffusionmodules.openaimodel import UNetModel

    layout = FAMILIES[family]
    attention: dict[str, Any] = {"num_heads": _SD1_HEADS}
    if family == "sd2":
        attention = {"num_head_channels": min(_HEAD_CHANNELS, width), "use_linear_in_transformer": True}
    unet: Any = UNetModel(
        image_size=64,  # required, but ldm never uses it
        in_channels=4,
        out_channels=4,
        model_channels=width,
        channel_mult=layout.multipliers,
        num_res_blocks=layout.residual_blocks,
        attention_resolutions=[2**level for level, depth in enumerate(layout.depths) if depth],
        use_spatial_transformer=True,
        transformer_depth=1,
        context_dim=layout.context,
        use_checkpoint=False,
        legacy=False,
        **attention,
    ).to(dtype)
    unet.dtype = dtype  # ldm casts the latent to it
    for norm in unet.modules():
        if isinstance(norm, nn.GroupNorm):
            norm.float()  # ldm casts their input to float32
    use_sdpa(unet)
    return unet


def _diffusers_unet(family: str, dtype: torch.dtype, width: int) -> nn.Module:
    from diffusers import UNet2DConditionModel
    from diffusers.models.attention_processor import AttnProcessor2_0

    layout = FAMILIES[family]
    channels = tuple(width * multiplier for multiplier in layout.multipliers)
    unet: Any = UNet2DConditionModel(
        block_out_channels=channels,
        layers_per_block=layout.residual_blocks,
        down_block_types=tuple("CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in layout.depths),
        up_block_types=tuple("CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(layout.depths)),
        transformer_layers_per_block=tuple(max(depth, 1) for depth in layout.depths),
        # Despite its name, this is the number of heads.
        attention_head_dim=tuple(max(count // _HEAD_CHANNELS, 1) for count in channels),
        cross_attention_dim=layout.context,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=_TIME_ID_CHANNELS,
        projection_class_embeddings_input_dim=_POOLED_TEXT + _TIME_IDS * _TIME_ID_CHANNELS,
    )
    unet.set_attn_processor(AttnProcessor2_0())
    # diffusers' own `to` warns about layers to keep in float32, of which this UNet has none.
    return nn.Module.to(unet, dtype)


def _fill(unet: nn.Module) -> None:
    """Fills in random weights of variance 1 / fan-in, which keep activations near 1 at every depth, so that float16
    does not overflow. Norms and biases have no effect."""
    device = next(unet.parameters()).device
    generator = torch.Generator(device).manual_seed(_WEIGHT_SEED)
    for name, parameter in unet.named_parameters():
        if parameter.ndim > 1:
            bound = math.sqrt(3 / parameter[0].numel())
            parameter.uniform_(-bound, bound, generator=generator)
        else:
            parameter.fill_(float(name.endswith("weight")))
