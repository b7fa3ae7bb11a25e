"""The tiny model: ldm's UNet, the words it knows, and the transform of its latents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.sdpa import use_sdpa
from benchmarks.tiny.latents import CHANNELS, PATCH, Transform
from benchmarks.tiny.photographs import PROMPTS
from todo import SettingsError

WEIGHTS = Path(__file__).with_name("weights.safetensors")

TRAINED_SIDE = 128
"""Pixels per side of most of its training."""

TRAINED_GRID = TRAINED_SIDE // PATCH
"""Tokens per side of its finest level in most of its training."""

MIRRORED = "mirrored"
"""The word that mirrors an image."""

WORDS = ("", *dict.fromkeys(word for prompt in (*PROMPTS, MIRRORED) for word in prompt.split()))
"""Its vocabulary. The first stands for no word."""

KNOWN = f"it knows {', '.join(PROMPTS)}, and each of them {MIRRORED}"

_MODEL_CHANNELS, _MULTIPLIERS, _HEAD_CHANNELS = 32, (1, 2, 4), 32
_CONTEXT_CHANNELS, _CONTEXT_WORDS = 64, 6
_WAVES = (1, 2, 4)
"""Half waves over the image. Each position has their sines and cosines, across and down, as channels."""

_LARGEST_SIDE = 2048
_SIZE_STEP = PATCH * 2 ** (len(_MULTIPLIERS) - 1)


class TinyModel(nn.Module):
    """The UNet at `.unet`, self-attention at all three levels as in SD1, and the embedding of prompts."""

    def __init__(self, transform: Transform):
        super().__init__()
        self.unet = _unet()
        self.words = nn.Embedding(len(WORDS), _CONTEXT_CHANNELS)
        self.places = nn.Parameter(torch.zeros(_CONTEXT_WORDS, _CONTEXT_CHANNELS))
        self.size = nn.Linear(2, _CONTEXT_CHANNELS)
        self.register_buffer("mean", transform.mean)
        self.register_buffer("basis", transform.basis)
        self.register_buffer("inverse", transform.inverse)

    mean: Tensor
    basis: Tensor
    inverse: Tensor

    @property
    def device(self) -> torch.device:
        return self.mean.device

    @property
    def transform(self) -> Transform:
        return Transform(self.mean, self.basis, self.inverse)

    def forward(self, latent: Tensor, timesteps: Tensor, context: Tensor) -> Tensor:
        """The predicted latent without noise.

        Args:
            latent: (batch, 48, h, w), scaled to the noise schedule.
            timesteps: (batch,).
            context: (batch, tokens, channels), of `context`.
        """
        places = _positions(*latent.shape[2:]).to(latent).expand(len(latent), -1, -1, -1)
        return self.unet(torch.cat([latent, places], dim=1), timesteps, context)

    def context(self, prompts: Sequence[str], size: tuple[int, int]) -> Tensor:
        """What cross-attention reads: (prompts, 7, channels), the words, padded, and the image's size, which SDXL gets,
        too.

        Args:
            size: (height, width) of the image in pixels.

        Raises:
            SettingsError: for a word it does not know.
        """
        numbers = torch.tensor([_numbers(prompt) for prompt in prompts], device=self.places.device)
        doublings = torch.tensor([size], device=self.places.device).div(TRAINED_SIDE).log2()
        sized = self.size(doublings.to(self.places.dtype)).expand(len(prompts), 1, -1)
        return torch.cat([self.words(numbers) + self.places, sized], dim=1)


def load(path: Path = WEIGHTS, device: torch.device | str = "cpu") -> TinyModel:
    """The trained model, in float32 and ready to sample with."""
    from safetensors.torch import load_file

    state = {name: value.float() for name, value in load_file(path).items()}
    model = TinyModel(Transform(state["mean"], state["basis"], state["inverse"]))
    model.load_state_dict(state)
    return model.to(device).eval().requires_grad_(False)


def save(model: TinyModel, path: Path) -> None:
    """Writes the model in float16, except the transform, which has to stay invertible."""
    from safetensors.torch import save_file

    exact = {name for name, _ in model.named_buffers()}
    state = model.state_dict()
    save_file({name: (value if name in exact else value.half()).contiguous() for name, value in state.items()}, path)


def latent_shape(size: tuple[int, int]) -> tuple[int, int, int]:
    """Channels, height and width of the latent for an image of `size` = (height, width) in pixels."""
    return CHANNELS, size[0] // PATCH, size[1] // PATCH


def read_size(text: str) -> tuple[int, int]:
    """An image's (height, width) in pixels from 'N' or 'WxH', in multiples of 16, which the levels need.

    Raises:
        SettingsError: for anything else.
    """
    parts = text.lower().replace("×", "x").split("x")
    if len(parts) > 2 or not all(map(_is_side, parts)):
        raise SettingsError(
            "size",
            f"size: {text[:40]!r} is not allowed; it must be N or WxH in multiples of {_SIZE_STEP}, up to {_LARGEST_SIDE}",
        )
    return int(parts[-1]), int(parts[0])


def _is_side(text: str) -> bool:
    return text.isdecimal() and len(text) < 10 and 0 < int(text) <= _LARGEST_SIDE and int(text) % _SIZE_STEP == 0


def check_prompt(prompt: str) -> None:
    """Raises SettingsError for a prompt with words that the model does not know, or too many of them."""
    _numbers(prompt)


def _numbers(prompt: str) -> list[int]:
    words = prompt.replace(",", " ").lower().split()
    for word in words:
        if word not in WORDS:
            raise SettingsError("prompt", f"prompt: {word!r} is not a word that the tiny model knows; {KNOWN}")
    if len(words) > _CONTEXT_WORDS:
        raise SettingsError("prompt", f"prompt: {len(words)} words are too many; {KNOWN}")
    return [WORDS.index(word) for word in words] + [0] * (_CONTEXT_WORDS - len(words))


def _positions(height: int, width: int) -> Tensor:
    """Where in the image each position lies, as channels: (14, height, width). This lets the model place things rightly
    at sizes that it has hardly seen."""
    axes = [(torch.arange(side) + 0.5) / side * 2 - 1 for side in (height, width)]
    planes = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    waves = [planes * math.pi * wave for wave in _WAVES]
    return torch.cat([planes, *(wave.sin() for wave in waves), *(wave.cos() for wave in waves)])


def _unet() -> nn.Module:
    from ldm.modules.diffusionmodules.openaimodel import UNetModel

    levels = [2**level for level in range(len(_MULTIPLIERS))]
    unet: Any = UNetModel(
        image_size=TRAINED_GRID,
        in_channels=CHANNELS + 2 + 4 * len(_WAVES),
        out_channels=CHANNELS,
        model_channels=_MODEL_CHANNELS,
        channel_mult=_MULTIPLIERS,
        num_res_blocks=1,
        attention_resolutions=levels,
        num_head_channels=_HEAD_CHANNELS,
        use_spatial_transformer=True,
        transformer_depth=1,
        context_dim=_CONTEXT_CHANNELS,
        use_checkpoint=False,
        legacy=False,
    )
    use_sdpa(unet)
    for block in unet.modules():
        if hasattr(block, "checkpoint"):
            block.checkpoint = False  # ldm's own breaks autocast's backward pass
    return unet
