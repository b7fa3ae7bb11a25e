"""Latents without an autoencoder: patches of 4×4 pixels become 48 channels, rotated and scaled so that the first ones
hold most of the image. The transform is linear and invertible, so it loses nothing and needs no training."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

PATCH = 4
"""Pixels per side of one latent position."""

CHANNELS = 3 * PATCH**2


@dataclass(frozen=True)
class Transform:
    """channels = (pixels − mean) · basis.

    Attributes:
        mean: (48,).
        basis: (48, 48).
        inverse: of the basis, (48, 48).
    """

    mean: Tensor
    basis: Tensor
    inverse: Tensor

    def encode(self, image: Tensor) -> Tensor:
        """Turns pixels (batch, 3, h, w) in [−1, 1] into latents (batch, 48, h/4, w/4). h and w are multiples of 4."""
        return _project(functional.pixel_unshuffle(image, PATCH) - self.mean[:, None, None], self.basis)

    def decode(self, latent: Tensor) -> Tensor:
        """The inverse of `encode`, clamped to [−1, 1]."""
        pixels = _project(latent, self.inverse) + self.mean[:, None, None]
        return functional.pixel_shuffle(pixels, PATCH).clamp(-1, 1)


def fit(images: list[Tensor]) -> Transform:
    """The transform to the principal components of the patches of images (3, h, w).

    A component whose variance is v times the first's is scaled to √v, half way to equal variances. As with pixels, fine
    detail appears late in sampling. As with an autoencoder's latents, the first component does not dominate it.
    """
    cropped = [image[None, :, : image.shape[1] // PATCH * PATCH, : image.shape[2] // PATCH * PATCH] for image in images]
    patches = torch.cat([functional.pixel_unshuffle(image, PATCH)[0].flatten(1).T for image in cropped]).double()
    mean = patches.mean(0)
    variances, axes = torch.linalg.eigh(torch.cov((patches - mean).T))
    variances, axes = variances.flip(0).clamp(min=1e-9), axes.flip(1)
    scale = (variances * variances[0]).pow(-1 / 4)
    return Transform(mean.float(), (axes * scale).float(), (axes / scale).T.float())


def _project(channels: Tensor, matrix: Tensor) -> Tensor:
    return torch.einsum("bchw,cd->bdhw", channels, matrix)
