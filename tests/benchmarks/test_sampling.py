"""The timed sampling loop, with denoisers for which the result is known in advance."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks.speed.models import Inputs, sample


class Denoiser(nn.Module):
    """Predicts that the latent is nothing but noise, so the image is all zeros."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        # Stable Diffusion's schedule: the square roots of the betas rise linearly.
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        self.kept = (1 - betas).cumprod(0)
        self.timesteps: list[float] = []

    def forward(self, latent, timesteps, context):
        assert timesteps.shape == latent.shape[:1]
        self.timesteps.append(float(timesteps[0]))
        # latent = noise · √(1 − kept). Timesteps may lie between two entries of the schedule.
        below = int(timesteps[0])
        share = float(timesteps[0]) - below
        sigmas = [((1 - self.kept[at]) / self.kept[at]).sqrt() for at in (below, min(below + 1, 999))]
        sigma = float(torch.lerp(*sigmas, share))
        return latent * (sigma**2 + 1) ** 0.5 / sigma


class Recorder:
    def __init__(self):
        self.at_calls: list[tuple[int, int]] = []

    def at(self, step, steps):
        self.at_calls.append((step, steps))


@pytest.mark.parametrize("steps", [1, 5, 20])
def test_sampling_leads_from_noise_to_the_image(steps):
    unet, patch = Denoiser(), Recorder()
    noise = torch.randn(2, 4, 8, 8)
    latent = sample(unet, Inputs(noise, torch.zeros(2), torch.zeros(2, 1, 1), {}), steps, patch)
    assert latent.shape == noise.shape
    assert latent.abs().max() < 1e-3
    assert len(unet.timesteps) == steps
    assert unet.timesteps == sorted(unet.timesteps, reverse=True)
    assert patch.at_calls == [(step, steps) for step in range(steps)]


def test_a_denoiser_that_predicts_no_noise_only_scales_the_latent():
    class Idle(Denoiser):
        def forward(self, latent, timesteps, context):
            return torch.zeros_like(latent)

    noise = torch.randn(1, 4, 8, 8)
    latent = sample(Idle(), Inputs(noise, torch.zeros(1), torch.zeros(1, 1, 1), {}), 4, None)
    scale = latent / noise  # the schedule's first sigma
    torch.testing.assert_close(scale, torch.full_like(scale, float(scale.mean())))
    assert 14 < scale.mean() < 15
