"""Finds the self-attention blocks of a UNet and the level of each, by structure alone.

Class names are ignored, because hosts and their extensions rename and replace classes. The attributes are the same in
every UNet of the ldm, sgm, Forge and diffusers families.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

_STAGES = ("input_blocks", "down_blocks", "output_blocks", "up_blocks")


class UnsupportedModelError(ValueError):
    """The model has no self-attention that ToDo can patch. The message says what was looked for, and where."""


@dataclass(frozen=True)
class SelfAttention:
    """A self-attention block outside the middle block.

    Attributes:
        name: path of the transformer block within the UNet.
        transformer: the spatial transformer that contains the block. Its input has the shape (batch, channels, h, w).
        attention: the attention module, `attn1`, with the projections to_q, to_k and to_v.
        resolution: 1 for the model's finest self-attention level, 2 for the level at half that size, and so on.
        depth: how many times the latent was halved before the transformer.
    """

    name: str
    transformer: nn.Module
    attention: nn.Module
    resolution: int
    depth: int


def find_unet(model: Any) -> nn.Module:
    """The UNet of a model.

    Args:
        model: an ldm, sgm or WebUI model (`.model.diffusion_model`), a diffusers pipeline (`.unet`) or a UNet.

    Raises:
        UnsupportedModelError: there is no UNet, or it has no self-attention with separate projections.
    """
    for path in (("model", "diffusion_model"), ("diffusion_model",), ("unet",), ()):
        candidate = _at(model, path)
        if isinstance(candidate, nn.Module) and not _within_wrapper(candidate) and next(_transformers(candidate), None):
            return candidate
    if hint := _within_wrapper(model):
        raise UnsupportedModelError(f"{type(model).__name__} wraps a UNet; pass the UNet itself, {hint}")
    raise UnsupportedModelError(
        f"{type(model).__name__} has no UNet like that of Stable Diffusion 1, 2 or XL: found no transformer_blocks "
        "with attn1.to_q, attn1.to_k and attn1.to_v (looked in .model.diffusion_model, .diffusion_model, .unet and "
        "the object itself)"
    )


def find_controlnets(model: Any) -> list[nn.Module]:
    """The ControlNets with self-attention that a model holds: those of a diffusers pipeline (`.controlnet`, one or
    several) or of a cldm model (`.control_model`)."""
    held = [getattr(model, name, None) for name in ("controlnet", "control_model")]
    networks = [network for holder in held for network in getattr(holder, "nets", [holder])]
    return [network for network in networks if isinstance(network, nn.Module) and next(_transformers(network), None)]


def find_self_attention(unet: nn.Module) -> list[SelfAttention]:
    """All self-attention blocks of a UNet outside its middle block, in the order of the UNet's modules.

    Raises:
        UnsupportedModelError: there are none, or all have fused projections, which compute queries, keys and values at
            once, so that keys and values cannot be downsampled on their own.
    """
    depths = _depths(unet)
    blocks = []
    fused = 0
    for name, transformer in _transformers(unet):
        if transformer not in depths:
            continue
        for index, block in enumerate(transformer.transformer_blocks):
            if not _is_self_attention(block):
                continue
            if _is_fused(block.attn1):
                fused += 1
                continue
            blocks.append((f"{name}.transformer_blocks.{index}", transformer, block.attn1, depths[transformer]))
    if not blocks:
        missing = f"no self-attention in the stages of a UNet (looked in {', '.join(_STAGES)})"
        what = "only fused projections (unfuse them first)" if fused else missing
        raise UnsupportedModelError(f"{type(unet).__name__} has {what}")
    finest = min(depth for *_, depth in blocks)
    return [
        SelfAttention(name, outer, attention, 2 ** (depth - finest), depth) for name, outer, attention, depth in blocks
    ]


def _at(model: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        model = getattr(model, name, None)
    return model


def _within_wrapper(model: Any) -> str:
    """Where a wrapper such as DataParallel or PeftModel holds the UNet; '' if the model is no such wrapper."""
    for path in (("module",), ("base_model", "model")):
        within = vars(model).get("_modules", {}).get(path[0]) if isinstance(model, nn.Module) else None
        within = _at(within, path[1:]) if within is not None else None
        if isinstance(within, nn.Module) and any(name in within._modules for name in _STAGES):
            return "." + ".".join(path)
    return ""


def _transformers(unet: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, module in unet.named_modules():
        blocks = getattr(module, "transformer_blocks", None)
        if not isinstance(blocks, nn.ModuleList) or _is_temporal(module):
            continue
        if any(_is_self_attention(block) for block in blocks):
            yield name, module


def _is_temporal(transformer: nn.Module) -> bool:
    """Whether a transformer attends across the frames of a video instead of within an image. Its blocks look the same,
    but it has to know the number of frames."""
    return "num_frames" in inspect.signature(transformer.forward).parameters


def _is_self_attention(block: nn.Module) -> bool:
    attention = getattr(block, "attn1", None)
    if not all(isinstance(getattr(attention, name, None), nn.Module) for name in ("to_q", "to_k", "to_v")):
        return False
    return not (getattr(block, "disable_self_attn", False) or getattr(block, "only_cross_attention", False))


def _is_fused(attention: Any) -> bool:
    # diffusers leaves `fused_projections` set when it switches back to a processor that calls to_k and to_v.
    processor = type(getattr(attention, "processor", None)).__name__
    return getattr(attention, "fused_projections", False) and ("Fused" in processor or processor == "NoneType")


def _depths(unet: nn.Module) -> dict[nn.Module, int]:
    """How many times the latent has been halved before each transformer outside the middle block."""
    depths: dict[nn.Module, int] = {}
    depth = 0
    for names in _STAGES:
        for stage in getattr(unet, names, None) or ():
            for part in _parts(stage):
                depths |= {module: depth for module in part.modules() if hasattr(module, "transformer_blocks")}
            depth += sum(_halvings(part) for part in _parts(stage))
    return depths


def _parts(stage: nn.Module) -> list[nn.Module]:
    """The layers of a stage. In ldm a stage is a sequence of layers; in diffusers it holds lists of them. If a stage
    resamples, it does so after its attention. A layer may be wrapped, as by diffusers' FreeNoise."""
    parts: list[nn.Module] = []
    for child in stage.children():
        parts.extend(child if isinstance(child, nn.ModuleList) else [child])
    return [_unwrapped(part) for part in parts]


def _unwrapped(part: nn.Module) -> nn.Module:
    within = getattr(part, "module", None)
    return within if isinstance(within, nn.Module) else part


def _halvings(part: nn.Module) -> int:
    """1 for a layer that halves the latent, -1 for one that doubles it, 0 for any other."""
    resampler = getattr(part, "h_upd", part)  # a residual block that resamples has one for each branch
    children = list(resampler.children())
    is_known = hasattr(resampler, "use_conv") and not hasattr(resampler, "in_layers")
    if not is_known and not (children and all(isinstance(child, nn.Conv2d) for child in children)):  # as in sd-scripts
        return 0
    return 1 if _strides(resampler) else -1


def _strides(resampler: nn.Module) -> bool:
    """Whether a layer downsamples: it then contains a convolution or pooling of stride 2. Upsampling layers do not."""
    return any(getattr(module, "stride", 1) not in (1, (1, 1)) for module in resampler.modules())
