"""Samples from the tiny model with diffusers' schedulers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.method import LatentSize
from benchmarks.noise import BETAS
from benchmarks.sampling import ADD_NOISE, Request, Sampling, sharpened
from benchmarks.tiny.model import TinyModel, latent_shape
from todo import Patch


@cache
def noise_schedule() -> Any:
    """Stable Diffusion's noise schedule as a scheduler of diffusers, from whose config the samplers are made.

    The model predicts the latent itself, not the noise, since noise fills more channels than the model's first level
    has.
    """
    from diffusers import DDPMScheduler

    return DDPMScheduler(**BETAS, prediction_type="sample")


@dataclass(frozen=True)
class TinyImageModel:
    """The tiny model as a `benchmarks.sampling.ImageModel`."""

    model: TinyModel

    @property
    def unet(self) -> nn.Module:
        return self.model.unet

    @property
    def device(self) -> torch.device:
        return self.model.device

    def latent_size(self, size: tuple[int, int]) -> LatentSize:
        return latent_shape(size)[1:]

    @torch.inference_mode()
    def sample(self, request: Request, patch: Patch | None = None) -> Tensor:
        """The latents after the last step, (seeds, 48, h, w)."""
        scheduler = _scheduler(request.sampling)
        generators = [torch.Generator().manual_seed(seed) for seed in request.seeds]
        noise = [torch.randn(latent_shape(request.size), generator=generator) for generator in generators]
        latent = torch.stack(noise).to(self.device) * scheduler.init_noise_sigma
        # Noise is drawn from each image's generator. Samplers that add none have no such argument.
        extras = {"generator": generators} if request.sampling.sampler in ADD_NOISE else {}
        for number, timestep in enumerate(scheduler.timesteps):
            if patch:
                patch.at(request.sampling.step(number), request.sampling.steps)
            predicted = self.predict(request, scheduler.scale_model_input(latent, timestep), timestep)
            if scheduler.config.prediction_type == "epsilon":
                predicted = (latent - predicted) / scheduler.sigmas[number]
            latent = scheduler.step(predicted, timestep, latent, **extras, return_dict=False)[0]
        return latent

    @torch.inference_mode()
    def predict(self, request: Request, latent: Tensor, timestep: Tensor) -> Tensor:
        """Calls the model, with guidance if the request asks for it, and returns the predicted latent without noise.

        Args:
            latent: scaled for the model, (batch, 48, h, w).
            timestep: a scalar.
        """
        guidance, prompts = request.sampling.guidance, [request.prompt] * len(latent)
        with sharpened(self.unet, request.sampling.sharpness):
            if guidance == 1.0:
                return self.model(latent, timestep.expand(len(latent)), self.model.context(prompts, request.size))
            doubled = torch.cat([latent, latent])
            context = self.model.context([*prompts, *([""] * len(latent))], request.size)
            conditional, unconditional = self.model(doubled, timestep.expand(len(doubled)), context).chunk(2)
        return unconditional + guidance * (conditional - unconditional)

    def decode(self, latents: Tensor) -> list[Any]:
        decoded = self.model.decode(latents).add(1).div(2)
        return list(decoded.permute(0, 2, 3, 1).double().cpu().numpy())


def _scheduler(sampling: Sampling) -> Any:
    # Ancestral Euler is the only one that does not support models which predict the latent.
    prediction_type = "epsilon" if sampling.sampler == "euler a" else noise_schedule().config.prediction_type
    scheduler = sampling.scheduler(noise_schedule().config, prediction_type=prediction_type, clip_sample=False)
    scheduler.set_timesteps(sampling.steps)
    return scheduler
