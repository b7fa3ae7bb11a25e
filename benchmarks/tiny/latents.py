"""Latents without an autoencoder: 4×4 pixels become 48 channels, rotated and scaled so that the first ones hold most
of the image. The transform is linear and invertible, so nothing is lost and nothing has to be trained."""

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
    """`mean` (48,) and `basis` (48, 48): channels = (pixels − mean) · basis; `inverse` the inverted basis."""

    mean: Tensor
    basis: Tensor
    inverse: Tensor

    def encode(self, image: Tensor) -> Tensor:
        """Pixels (batch, 3, h, w) in [−1, 1], sides multiples of 4, to latents (batch, 48, h/4, w/4)."""
        return _project(functional.pixel_unshuffle(image, PATCH) - self.mean[:, None, None], self.basis)

    def decode(self, latent: Tensor) -> Tensor:
        """The inverse of `encode`, cut to [−1, 1]."""
        pixels = _project(latent, self.inverse) + self.mean[:, None, None]
        return functional.pixel_shuffle(pixels, PATCH).clamp(-1, 1)


def fit(images: list[Tensor]) -> Transform:
    """The transform by principal components of images (3, h, w).

    A component of variance v is scaled to √v relative to the first's, half way to equal variances. As with pixels, fine
    detail appears late in sampling. As with an autoencoder's latents, the first component does not drown it.
    """
    cut = [image[None, :, : image.shape[1] // PATCH * PATCH, : image.shape[2] // PATCH * PATCH] for image in images]
    patches = torch.cat([functional.pixel_unshuffle(each, PATCH)[0].flatten(1).T for each in cut]).double()
    mean = patches.mean(0)
    variances, axes = torch.linalg.eigh(torch.cov((patches - mean).T))
    variances, axes = variances.flip(0).clamp(min=1e-9), axes.flip(1)
    scale = (variances * variances[0]).pow(-1 / 4)
    return Transform(mean.float(), (axes * scale).float(), (axes / scale).T.float())


def _project(channels: Tensor, matrix: Tensor) -> Tensor:
    return torch.einsum("bchw,cd->bdhw", channels, matrix)
