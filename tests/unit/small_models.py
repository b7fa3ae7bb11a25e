"""Small random UNets from the real libraries, and helpers to inspect any module."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

CONTEXT = 16

SD1 = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "attention_resolutions": [4, 2, 1],
    "num_res_blocks": 2,
    "channel_mult": [1, 2, 4, 4],
    "num_heads": 2,
    "use_spatial_transformer": True,
    "transformer_depth": 1,
    "context_dim": CONTEXT,
    "use_checkpoint": False,
    "legacy": False,
}

# The self-attention blocks of the SD1 layout outside the middle block, by level. The numbers follow from the order in
# which ldm's UNetModel builds its blocks.
SD1_BLOCKS = {
    1: [f"input_blocks.{i}.1" for i in (1, 2)] + [f"output_blocks.{i}.1" for i in (9, 10, 11)],
    2: [f"input_blocks.{i}.1" for i in (4, 5)] + [f"output_blocks.{i}.1" for i in (6, 7, 8)],
    4: [f"input_blocks.{i}.1" for i in (7, 8)] + [f"output_blocks.{i}.1" for i in (3, 4, 5)],
}


def ldm_unet(**changes: Any) -> nn.Module:
    from ldm.modules.diffusionmodules.openaimodel import UNetModel

    torch.manual_seed(1)
    return randomize_zero_weights(UNetModel(**{**SD1, **changes}))


def diffusers_unet(**changes: Any) -> nn.Module:
    from diffusers import UNet2DConditionModel

    torch.manual_seed(2)
    layout = {
        "sample_size": 16,
        "layers_per_block": 1,
        "block_out_channels": (32, 64),
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": CONTEXT,
        "attention_head_dim": 2,
        "norm_num_groups": 8,
    }
    return randomize_zero_weights(UNet2DConditionModel(**{**layout, **changes}))


def motion_unet(middle: bool = False) -> nn.Module:
    """AnimateDiff on the layout of SDXL."""
    from diffusers import UNetMotionModel

    torch.manual_seed(2)
    return randomize_zero_weights(
        UNetMotionModel(
            sample_size=16, block_out_channels=(32, 64, 64), norm_num_groups=8, cross_attention_dim=CONTEXT,
            down_block_types=("DownBlockMotion", "CrossAttnDownBlockMotion", "CrossAttnDownBlockMotion"),
            up_block_types=("CrossAttnUpBlockMotion", "CrossAttnUpBlockMotion", "UpBlockMotion"),
            layers_per_block=1, num_attention_heads=2, motion_num_attention_heads=2, use_motion_mid_block=middle,
            transformer_layers_per_block=(1, 1, 1),
        )
    )  # fmt: skip


class OneLevel(nn.Module):
    """A UNet reduced to one spatial transformer of ldm. It accepts any grid size."""

    def __init__(self, heads: int = 2, depth: int = 1):
        from ldm.modules.attention import SpatialTransformer

        super().__init__()
        transformer = SpatialTransformer(
            32, heads, 32 // heads, depth=depth, context_dim=[CONTEXT] * depth, use_checkpoint=False
        )
        self.input_blocks = nn.ModuleList([nn.Sequential(transformer)])

    @property
    def transformer(self) -> nn.Module:
        return self.input_blocks[0][0]

    @property
    def attention(self) -> nn.Module:
        return self.transformer.transformer_blocks[0].attn1

    def forward(self, x, timesteps=None, context=None):
        return self.transformer(x, [context] * len(self.transformer.transformer_blocks))


def one_level(**changes: Any) -> OneLevel:
    torch.manual_seed(3)
    return randomize_zero_weights(OneLevel(**changes))


class WebUIModel(nn.Module):
    """A model with its UNet in .model.diffusion_model, as in a WebUI."""

    def __init__(self, unet: nn.Module):
        super().__init__()
        self.model = nn.Module()
        self.model.diffusion_model = unet


def randomize_zero_weights(model: nn.Module) -> nn.Module:
    """Gives random weights to layers that are initialised with zeros, and makes self-attention more peaked.

    Otherwise these layers would hide any change in attention, and attention would average over all tokens.
    """
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1 and not parameter.any():
                parameter.normal_(std=0.2)
        for name, parameter in model.named_parameters():
            if name.endswith("attn1.to_q.weight"):
                parameter.mul_(6)
    return model.eval().requires_grad_(False)


def inputs(height: int, width: int, batch: int = 1, timestep: float = 500.0, seed: int = 7) -> tuple[torch.Tensor, ...]:
    """The inputs of a UNet: latent, timesteps and text conditioning."""
    generator = torch.Generator().manual_seed(seed)
    latent = torch.randn(batch, 4, height, width, generator=generator)
    context = torch.randn(batch, 7, CONTEXT, generator=generator)
    return latent, torch.full((batch,), timestep), context


def level_inputs(
    height: int, width: int, batch: int = 1, seed: int = 7
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The inputs of a `OneLevel`: a feature map, timesteps and text conditioning."""
    _, timesteps, context = inputs(1, 1, batch, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 32, height, width, generator=generator), timesteps, context


def run(model: nn.Module, given: tuple[torch.Tensor, ...]) -> torch.Tensor:
    with torch.no_grad():
        output = model(*given)
    return getattr(output, "sample", output)


_HOOK_TABLES = [
    name
    for name in vars(nn.Module())
    if "hook" in name and name not in ("_load_state_dict_pre_hooks", "_load_state_dict_post_hooks")
]


def hook_counts(model: nn.Module) -> dict[str, int]:
    """The number of hooks in each hook table of each module, without empty tables."""
    assert "_forward_pre_hooks" in _HOOK_TABLES
    assert "_forward_pre_hooks_with_kwargs" in _HOOK_TABLES
    return {
        f"{name}.{table}": len(getattr(module, table))
        for name, module in model.named_modules()
        for table in _HOOK_TABLES
        if getattr(module, table)
    }


def assert_no_hooks(model: nn.Module) -> None:
    assert hook_counts(model) == {}
    left = [
        f"{name}.{attribute}"
        for name, module in model.named_modules()
        for attribute in vars(module)
        if "todo" in attribute.lower() or attribute == "forward"
    ]
    assert left == []
