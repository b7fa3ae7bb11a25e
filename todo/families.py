"""The published UNet layouts, and the work of one call of them.

Work is counted in multiply-accumulates for one picture. Normalisation, activation and softmax are left out: they
are below one percent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_TEXT_TOKENS = 77
_LATENT_CHANNELS = 4


@dataclass(frozen=True)
class Family:
    """A UNet's layout: channels of its first level, multipliers and transformer depths by level (0: no attention),
    the middle block's depth, width of the text conditioning and residual blocks per level."""

    channels: int
    multipliers: tuple[int, ...]
    depths: tuple[int, ...]
    middle_depth: int
    context: int
    residual_blocks: int = 2

    @property
    def halvings(self) -> int:
        """How often the latent is halved."""
        return len(self.multipliers) - 1

    @property
    def finest(self) -> int:
        """The first level with self-attention."""
        return next(level for level, depth in enumerate(self.depths) if depth)

    def grid(self, latent: tuple[int, int], level: int) -> tuple[int, int]:
        """A level's token grid (h, w) for a latent's size; each halving rounds up."""
        return math.ceil(latent[0] / 2**level), math.ceil(latent[1] / 2**level)

    def blocks(self, level: int) -> int:
        """How many self-attention blocks a level has on the way down and up."""
        return self.depths[level] * (2 * self.residual_blocks + 1)


# Source: Stability AI's configs v1-inference.yaml, v2-inference.yaml and sd_xl_base.yaml.
FAMILIES = {
    "sd1": Family(320, (1, 2, 4, 4), (1, 1, 1, 0), 1, 768),
    "sd2": Family(320, (1, 2, 4, 4), (1, 1, 1, 0), 1, 1024),
    "sdxl": Family(320, (1, 2, 4), (0, 2, 10), 10, 2048),
}


def attention_work(family: Family, latent: tuple[int, int], kept: dict[int, int]) -> int:
    """Query-key and weight-value products of all self-attention, `kept` keys by level where not all are."""
    work = 0
    for level, multiplier in enumerate(family.multipliers):
        tokens = math.prod(family.grid(latent, level))
        work += family.blocks(level) * _products(tokens, kept.get(level, tokens), family.channels * multiplier)
    last = family.halvings
    middle = math.prod(family.grid(latent, last))
    return work + family.middle_depth * _products(middle, middle, family.channels * family.multipliers[last])


def unet_work(family: Family, latent: tuple[int, int], kept: dict[int, int]) -> int:
    """The whole UNet call, `kept` keys by level where not all are."""
    return _Walk(family, latent, kept).work()


class _Walk:
    """Follows the latent through a layout, level by level, and adds up the work."""

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
