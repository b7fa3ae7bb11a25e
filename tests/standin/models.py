"""What a host keeps as its loaded model, around small UNets."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from tests.unit import small_models

FAMILIES = ("sd1", "sd2", "sdxl")

# SD1's layout with two levels and one residual block in each: three self-attention blocks at the finest level.
SMALL = {"num_res_blocks": 1, "channel_mult": [1, 2], "attention_resolutions": [2, 1]}


class LoadedModel(nn.Module):
    """A checkpoint of A1111: its UNet is in .model.diffusion_model."""

    sd_checkpoint_info: Any = None

    def __init__(self, unet: nn.Module, family: str = "sd1"):
        super().__init__()
        self.model = nn.Module()
        self.model.diffusion_model = unet
        for name in FAMILIES:
            setattr(self, f"is_{name}", name == family)

    def apply_model(self, x: Tensor, sigma: Tensor, text: Tensor) -> Tensor:
        return self.model.diffusion_model(x, sigma, text)


class ForgeModel:
    """A checkpoint of Forge: an engine beside a patcher that holds the UNet. It has no .model."""

    sd_checkpoint_info: Any = None
    is_sd1, is_sd2, is_sdxl = True, False, False

    def __init__(self, unet: nn.Module):
        self.forge_objects = SimpleNamespace(unet=SimpleNamespace(model=SimpleNamespace(diffusion_model=unet)))

    def apply_model(self, x: Tensor, sigma: Tensor, text: Tensor) -> Tensor:
        return self.forge_objects.unet.model.diffusion_model(x, sigma, text)


class FusedUNet(nn.Module):
    """Keys, queries and values from one projection, as in the transformers that followed the UNets."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Conv2d(4, 12, 1)

    def forward(self, x: Tensor, timesteps: Any = None, context: Any = None) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, 1)
        return torch.tanh(q * k) + v


def unet_of(model: Any) -> nn.Module:
    forge = getattr(model, "forge_objects", None)
    return (forge.unet if forge else model).model.diffusion_model


def factory(make: Callable[[nn.Module], Any] = LoadedModel) -> Callable[[], Any]:
    """Loads the same weights as a new model each time, as a host does from a file."""
    return lambda: make(small_models.ldm_unet(**SMALL))


def shared(make: Callable[[nn.Module], Any], unet: nn.Module) -> Callable[[], Any]:
    """Loads a UNet that was made before; spares the time of making one."""
    return lambda: make(unet)
