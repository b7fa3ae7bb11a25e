"""The model objects of the hosts, with small UNets in them."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from tests.unit import small_models

FAMILIES = ("sd1", "sd2", "sdxl")

# SD1's layout, but with two levels and one residual block in each. The finest level has three self-attention blocks.
SMALL = {"num_res_blocks": 1, "channel_mult": [1, 2], "attention_resolutions": [2, 1]}


class LoadedModel(nn.Module):
    """A model of A1111. Its UNet is in .model.diffusion_model."""

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
    """A model of Forge. A patcher holds its UNet, and there is no .model."""

    sd_checkpoint_info: Any = None
    is_sd1, is_sd2, is_sdxl = True, False, False

    def __init__(self, unet: nn.Module):
        self.forge_objects = SimpleNamespace(unet=SimpleNamespace(model=SimpleNamespace(diffusion_model=unet)))

    def apply_model(self, x: Tensor, sigma: Tensor, text: Tensor) -> Tensor:
        return self.forge_objects.unet.model.diffusion_model(x, sigma, text)


class FusedUNet(nn.Module):
    """A model with one projection for queries, keys and values, as in SD3 and Flux."""

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
    """Returns a loader that creates a new model with the same weights each time, like loading a file."""
    return lambda: make(small_models.ldm_unet(**SMALL))


def shared(make: Callable[[nn.Module], Any], unet: nn.Module) -> Callable[[], Any]:
    """Returns a loader that reuses an existing UNet, which is faster."""
    return lambda: make(unet)
