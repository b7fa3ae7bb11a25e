"""Finds the self-attention blocks of a UNet, and the level of each, by structure alone.

Class names say nothing here: hosts and their extensions rename and replace the classes, but every UNet of the
ldm, sgm, Forge and diffusers families keeps the same attributes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

_STAGES = ("input_blocks", "down_blocks", "output_blocks", "up_blocks")


class UnsupportedModelError(ValueError):
    """A model has no self-attention that can be reached. The message names what was looked for."""


@dataclass(frozen=True)
class SelfAttention:
    """One self-attention block outside the middle block, with its transformer and where both sit.

    `resolution` is 1 at the model's finest self-attention, 2 at the level of half that size, and so on. `name` is
    the block's path within the UNet.
    """

    name: str
    transformer: nn.Module
    attention: nn.Module
    resolution: int


def find_unet(model: Any) -> nn.Module:
    """The UNet of a model: of a WebUI's or ldm's model (`.model.diffusion_model`), a diffusers pipeline
    (`.unet`), or the UNet itself.

    Raises:
        UnsupportedModelError: there is none, or it has no self-attention with separate projections.
    """
    for path in (("model", "diffusion_model"), ("diffusion_model",), ("unet",), ()):
        candidate = model
        for name in path:
            candidate = getattr(candidate, name, None)
        if isinstance(candidate, nn.Module) and next(_transformers(candidate), None):
            return candidate
    raise UnsupportedModelError(
        f"{type(model).__name__} has no UNet of the kind of Stable Diffusion 1, 2 or XL: no transformer_blocks with an "
        "attn1 of to_q, to_k and to_v (looked in .model.diffusion_model, .diffusion_model, .unet and the object itself)"
    )


def find_controlnets(model: Any) -> list[nn.Module]:
    """The ControlNets that a model holds beside its UNet and that have self-attention: a diffusers pipeline's, one
    or several (`.controlnet`), or a cldm model's (`.control_model`)."""
    held = [getattr(model, name, None) for name in ("controlnet", "control_model")]
    networks = [network for holder in held for network in getattr(holder, "nets", [holder])]
    return [network for network in networks if isinstance(network, nn.Module) and next(_transformers(network), None)]


def find_self_attention(unet: nn.Module) -> list[SelfAttention]:
    """Every self-attention block of a UNet but the middle block's, in the order of the UNet's own modules.

    Raises:
        UnsupportedModelError: there is none, or all have fused projections, where keys and values cannot be told
            from queries.
    """
    depths = _depths(unet)
    found = []
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
            found.append((f"{name}.transformer_blocks.{index}", transformer, block.attn1, depths[transformer]))
    if not found:
        where = f"no self-attention in the stages of a UNet (looked in {', '.join(_STAGES)})"
        why = "only fused projections (unfuse them first)" if fused else where
        raise UnsupportedModelError(f"{type(unet).__name__} has {why}")
    finest = min(depth for *_, depth in found)
    return [SelfAttention(name, outer, attention, 2 ** (depth - finest)) for name, outer, attention, depth in found]


def is_compiled(network: nn.Module) -> bool:
    """Whether torch.compile was put on a network or a part of it: around the module, in place or on its forward."""
    return any(
        getattr(module, "_orig_mod", None) is not None
        or getattr(module, "_compiled_call_impl", None) is not None
        or hasattr(module.forward, "_torchdynamo_orig_callable")
        for module in network.modules()
    )


def _transformers(unet: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, module in unet.named_modules():
        blocks = getattr(module, "transformer_blocks", None)
        if isinstance(blocks, nn.ModuleList) and any(_is_self_attention(block) for block in blocks):
            yield name, module


def _is_self_attention(block: nn.Module) -> bool:
    attention = getattr(block, "attn1", None)
    if not all(isinstance(getattr(attention, name, None), nn.Module) for name in ("to_q", "to_k", "to_v")):
        return False
    return not (getattr(block, "disable_self_attn", False) or getattr(block, "only_cross_attention", False))


def _is_fused(attention: Any) -> bool:
    # diffusers leaves `fused_projections` set when it goes back to a processor that asks to_k and to_v again.
    processor = type(getattr(attention, "processor", None)).__name__
    return getattr(attention, "fused_projections", False) and ("Fused" in processor or processor == "NoneType")


def _depths(unet: nn.Module) -> dict[nn.Module, int]:
    """How many times the latent was halved before each transformer outside the middle block."""
    depths: dict[nn.Module, int] = {}
    depth = 0
    for names in _STAGES:
        for stage in getattr(unet, names, None) or ():
            for part in _parts(stage):
                if hasattr(part, "transformer_blocks"):
                    depths[part] = depth
            depth += sum(_halvings(part) for part in _parts(stage))
    return depths


def _parts(stage: nn.Module) -> list[nn.Module]:
    """A stage's layers: ldm's stages are sequences of them, diffusers' hold them in lists. A stage resamples
    after its attention, if at all."""
    parts: list[nn.Module] = []
    for child in stage.children():
        parts.extend(child if isinstance(child, nn.ModuleList) else [child])
    return parts


def _halvings(part: nn.Module) -> int:
    """1 for a layer that halves the latent, -1 for one that doubles it, 0 for any other."""
    resampler = getattr(part, "h_upd", part)  # a residual block that resamples holds one for each branch
    if not hasattr(resampler, "use_conv") or hasattr(resampler, "in_layers"):
        return 0
    return 1 if _strides(resampler) else -1


def _strides(resampler: nn.Module) -> bool:
    """Downsampling layers hold a convolution or a pooling of stride 2, upsampling ones only interpolate."""
    return any(getattr(module, "stride", 1) not in (1, (1, 1)) for module in resampler.modules())
