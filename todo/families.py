"""The published UNet layouts, and how much work one call of each takes.

Work is counted in multiply-accumulates for one image. Normalisation, activations and softmax are not counted: they are
less than one percent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_TEXT_TOKENS = 77
_LATENT_CHANNELS = 4


@dataclass(frozen=True)
class Family:
    """The layout of a UNet.

    Attributes:
        channels: channels of the first level.
        multipliers: channels of each level, as a multiple of `channels`.
        depths: transformer blocks in each spatial transformer, by level; 0 means no attention.
        middle_depth: the same for the middle block.
        context: channels of the text conditioning.
        residual_blocks: residual blocks per level of the encoder. The decoder has one more.
    """

    channels: int
    multipliers: tuple[int, ...]
    depths: tuple[int, ...]
    middle_depth: int
    context: int
    residual_blocks: int = 2

    @property
    def halvings(self) -> int:
        """How many times the UNet halves the latent."""
        return len(self.multipliers) - 1

    @property
    def finest(self) -> int:
        """The first level with self-attention."""
        return next(level for level, depth in enumerate(self.depths) if depth)

    def grid(self, latent: tuple[int, int], level: int) -> tuple[int, int]:
        """The token grid (h, w) of a level for a latent (h, w). Each halving rounds up."""
        return math.ceil(latent[0] / 2**level), math.ceil(latent[1] / 2**level)

    def blocks(self, level: int) -> int:
        """How many self-attention blocks a level has in the encoder and decoder together."""
        return self.depths[level] * (2 * self.residual_blocks + 1)


# Source: Stability AI's configs v1-inference.yaml, v2-inference.yaml and sd_xl_base.yaml.
FAMILIES = {
    "sd1": Family(320, (1, 2, 4, 4), (1, 1, 1, 0), 1, 768),
    "sd2": Family(320, (1, 2, 4, 4), (1, 1, 1, 0), 1, 1024),
    "sdxl": Family(320, (1, 2, 4), (0, 2, 10), 10, 2048),
}


def attention_work(family: Family, latent: tuple[int, int], kept: dict[int, int]) -> int:
    """Work of the two matrix products, q·kᵀ and weights·v, in all self-attention blocks.

    Args:
        latent: (h, w), in latent pixels.
        kept: number of keys by level. A level that is not in it keeps all of them.

    Returns:
        Multiply-accumulates for one image.
    """
    work = 0
    for level, multiplier in enumerate(family.multipliers):
        tokens = math.prod(family.grid(latent, level))
        work += family.blocks(level) * _products(tokens, kept.get(level, tokens), family.channels * multiplier)
    last = family.halvings
    middle = math.prod(family.grid(latent, last))
    return work + family.middle_depth * _products(middle, middle, family.channels * family.multipliers[last])


def unet_work(family: Family, latent: tuple[int, int], kept: dict[int, int]) -> int:
    """Work of the whole UNet call. Arguments and result as in `attention_work`."""
    return _Walk(family, latent, kept).work()


class _Walk:
    """Walks through a layout level by level, as the UNet does, and adds up the work."""

    def __init__(self, family: Family, latent: tuple[int, int], kept: dict[int, int]):
        self.family = family
        self.kept = kept
        self.widths = [family.channels * multiplier for multiplier in family.multipliers]
        self.tokens = [math.prod(family.grid(latent, level)) for level in range(len(self.widths))]
        self.last = family.halvings
        self.embedding = 4 * family.channels
        self.skips: list[int] = []

    def work(self) -> int:
        channels = self.family.channels
        ends = 9 * self.tokens[0] * 2 * _LATENT_CHANNELS * channels
        timestep = channels * self.embedding + self.embedding**2
        return ends + timestep + self._encoder() + self._middle() + self._decoder()

    def _encoder(self) -> int:
        work = 0
        channels = self.family.channels
        self.skips = [channels]
        for level, width in enumerate(self.widths):
            for _ in range(self.family.residual_blocks):
                work += self._residual(channels, width, level) + self._level_transformers(level)
                channels = width
                self.skips.append(channels)
            if level < self.last:
                work += 9 * self.tokens[level + 1] * channels**2
                self.skips.append(channels)
        return work

    def _middle(self) -> int:
        width = self.widths[self.last]
        attention = self._transformers(self.last, self.family.middle_depth, self.tokens[self.last])
        return 2 * self._residual(width, width, self.last) + attention

    def _decoder(self) -> int:
        work = 0
        channels = self.widths[self.last]
        for level in range(self.last, -1, -1):
            for _ in range(self.family.residual_blocks + 1):
                work += self._residual(channels + self.skips.pop(), self.widths[level], level)
                work += self._level_transformers(level)
                channels = self.widths[level]
            if level:
                work += 9 * self.tokens[level - 1] * channels**2
        return work

    def _residual(self, channels_in: int, channels_out: int, level: int) -> int:
        shortcut = channels_in * channels_out if channels_in != channels_out else 0
        convolutions = 9 * channels_in * channels_out + 9 * channels_out**2
        return self.tokens[level] * (convolutions + shortcut) + self.embedding * channels_out

    def _level_transformers(self, level: int) -> int:
        return self._transformers(level, self.family.depths[level], self.kept.get(level, self.tokens[level]))

    def _transformers(self, level: int, depth: int, keys: int) -> int:
        n, channels = self.tokens[level], self.widths[level]
        per_token = channels**2
        self_attention = 2 * (n + keys) * per_token + _products(n, keys, channels)
        text = 2 * _TEXT_TOKENS * self.family.context * channels
        cross_attention = 2 * n * per_token + text + _products(n, _TEXT_TOKENS, channels)
        feed_forward = 12 * n * per_token
        projections = 2 * n * per_token if depth else 0
        return projections + depth * (self_attention + cross_attention + feed_forward)


def _products(queries: int, keys: int, channels: int) -> int:
    return 2 * queries * keys * channels
