"""The tiny model: ldm's UNet, the embedding of prompts, and the matrix that turns latents into pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import options
from benchmarks.sdpa import use_sdpa
from todo import SettingsError

WEIGHTS = Path(__file__).with_name("weights.safetensors")

PATCH = 4
"""Pixels per side of one latent position."""

CHANNELS = 3 * PATCH**2

TRAINED_SIDE = 128
"""Pixels per side of most training images."""

TRAINED_GRID = TRAINED_SIDE // PATCH
"""Tokens per side of the finest level at that size."""

SIZES = tuple((side, side) for side in (TRAINED_SIDE, TRAINED_SIDE * 3 // 2, TRAINED_SIDE * 2))
"""Sizes that are measured, (height, width) in pixels: 1, 1.5 and 2 times the trained one."""

PROMPTS = ("an astronaut", "a photographer", "a cat", "a cup of coffee", "ancient coins", "a rocket", "a brick wall",
           "distant galaxies")  # fmt: skip
"""One for each photograph that the model was trained on."""

MIRRORED = "mirrored"
"""The word for a mirrored image."""

KNOWN_PROMPTS = (*PROMPTS, *(f"{prompt} {MIRRORED}" for prompt in PROMPTS))
"""All that the model was trained on."""

_WORDS = ("", *dict.fromkeys(word for prompt in (*PROMPTS, MIRRORED) for word in prompt.split()))
"""The vocabulary. The empty first entry pads prompts."""

_KNOWN = f"it knows {', '.join(PROMPTS)}, and each of them {MIRRORED}"

_MODEL_CHANNELS, _MULTIPLIERS, _HEAD_CHANNELS = 32, (1, 2, 4), 32
_CONTEXT_CHANNELS, _CONTEXT_WORDS = 64, 6
_WAVES = (1, 2, 4)
"""Numbers of waves over the image, whose sines and cosines, across and down, encode a position in channels."""

_LARGEST_SIDE = 2048
_SIZE_STEP = PATCH * 2 ** (len(_MULTIPLIERS) - 1)


class TinyModel(nn.Module):
    """The UNet at `.unet`, which has self-attention at all three levels, and the embedding of prompts."""

    def __init__(self) -> None:
        super().__init__()
        self.unet = _unet()
        self.words = nn.Embedding(len(_WORDS), _CONTEXT_CHANNELS)
        self.places = nn.Parameter(torch.zeros(_CONTEXT_WORDS, _CONTEXT_CHANNELS))
        self.size = nn.Linear(2, _CONTEXT_CHANNELS)
        self.register_buffer("mean", torch.empty(CHANNELS))
        self.register_buffer("inverse", torch.empty(CHANNELS, CHANNELS))

    mean: Tensor
    inverse: Tensor

    @property
    def device(self) -> torch.device:
        return self.mean.device

    def forward(self, latent: Tensor, timesteps: Tensor, context: Tensor) -> Tensor:
        """Predicts the latent without noise.

        Args:
            latent: (batch, 48, h, w), scaled to the noise schedule.
            timesteps: (batch,).
            context: (batch, tokens, channels), from `context`.

        Returns:
            (batch, 48, h, w).
        """
        places = _positions(*latent.shape[2:]).to(latent).expand(len(latent), -1, -1, -1)
        return self.unet(torch.cat([latent, places], dim=1), timesteps, context)

    def context(self, prompts: Sequence[str], size: tuple[int, int]) -> Tensor:
        """The input of cross-attention, (prompts, 7, channels): six words, padded, and the image's size, which SDXL is
        conditioned on, too.

        Args:
            size: (height, width) of the image in pixels.

        Raises:
            SettingsError: a prompt has an unknown word or too many words.
        """
        numbers = torch.tensor([_numbers(prompt) for prompt in prompts], device=self.places.device)
        doublings = torch.tensor([size], device=self.places.device).div(TRAINED_SIDE).log2()
        embedded_size = self.size(doublings.to(self.places.dtype)).expand(len(prompts), 1, -1)
        return torch.cat([self.words(numbers) + self.places, embedded_size], dim=1)

    def decode(self, latent: Tensor) -> Tensor:
        """Turns latents (batch, 48, h, w) into pixels (batch, 3, 4h, 4w) in [−1, 1].

        The channels are the pixels of a patch in a fixed linear transform, whose first ones hold most of an image.
        """
        pixels = torch.einsum("bchw,cd->bdhw", latent, self.inverse) + self.mean[:, None, None]
        return functional.pixel_shuffle(pixels, PATCH).clamp(-1, 1)


def load() -> TinyModel:
    """The trained model in float32 on the CPU, ready for sampling."""
    from safetensors.torch import load_file

    state = {name: value.float() for name, value in load_file(WEIGHTS).items()}
    state.pop("basis")  # the transform in the other direction, for training
    model = TinyModel()
    model.load_state_dict(state)
    return model.eval().requires_grad_(False)


def latent_shape(size: tuple[int, int]) -> tuple[int, int, int]:
    """(channels, height, width) of the latent for an image of `size` = (height, width) in pixels."""
    return CHANNELS, size[0] // PATCH, size[1] // PATCH


def read_size(text: str) -> tuple[int, int]:
    """An image's (height, width) in pixels from 'N' or 'WxH'. The model's levels need multiples of 16.

    Raises:
        SettingsError: the text is anything else.
    """
    return options.read_size(text, _SIZE_STEP, _LARGEST_SIDE)


def check_prompt(prompt: str) -> None:
    """Checks a prompt before a run.

    Raises:
        SettingsError: it has an unknown word or too many words.
    """
    _numbers(prompt)


def _numbers(prompt: str) -> list[int]:
    words = prompt.replace(",", " ").lower().split()
    for word in words:
        if word not in _WORDS:
            raise SettingsError("prompt", f"prompt: {word!r} is not a word that the tiny model knows; {_KNOWN}")
    if len(words) > _CONTEXT_WORDS:
        raise SettingsError("prompt", f"prompt: {len(words)} words are too many; {_KNOWN}")
    return [_WORDS.index(word) for word in words] + [0] * (_CONTEXT_WORDS - len(words))


def _positions(height: int, width: int) -> Tensor:
    """Each position's place in the image, as channels (14, height, width). They let the model arrange an image at sizes
    that it was hardly trained at."""
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
    return unet
