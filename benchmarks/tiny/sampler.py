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

    def sample(self, request: Request, patch: Patch | None = None) -> Tensor:
        return sample(self.model, request, patch)

    def decode(self, latents: Tensor) -> list[Any]:
        return decode(self.model, latents)


@torch.inference_mode()
def sample(model: TinyModel, request: Request, patch: Patch | None = None) -> Tensor:
    """The latents after the last step, (seeds, 48, h, w). The same request gives the same latents.

    Args:
        patch: of ToDo, if it is applied. It is told the sampling step before each call.
    """
    scheduler = _scheduler(request.sampling)
    generators = [torch.Generator().manual_seed(seed) for seed in request.seeds]
    noise = [torch.randn(latent_shape(request.size), generator=generator) for generator in generators]
    latent = torch.stack(noise).to(model.device) * scheduler.init_noise_sigma
    # Noise is drawn from each image's generator. Samplers that add none have no such argument.
    extras = {"generator": generators} if request.sampling.sampler in ADD_NOISE else {}
    for number, timestep in enumerate(scheduler.timesteps):
        scaled = scheduler.scale_model_input(latent, timestep)
        predicted = predict(model, request, number, scaled, timestep, patch)
        if scheduler.config.prediction_type == "epsilon":
            predicted = (latent - predicted) / scheduler.sigmas[number]
        latent = scheduler.step(predicted, timestep, latent, **extras, return_dict=False)[0]
    return latent


@torch.inference_mode()
def predict(
    model: TinyModel, request: Request, number: int, latent: Tensor, timestep: Tensor, patch: Patch | None
) -> Tensor:
    """Calls the model, with guidance if the request asks for it, and returns the predicted latent without noise.

    Args:
        number: of the call, counted from 0.
        latent: scaled for the model, (batch, 48, h, w).
        timestep: a scalar.
        patch: of ToDo, if it is applied.
    """
    sampling = request.sampling
    if patch:
        patch.at(sampling.step(number), sampling.steps)
    prompts = [request.prompt] * len(latent)
    with sharpened(model.unet, sampling.sharpness):
        if sampling.guidance == 1.0:
            return model(latent, timestep.expand(len(latent)), model.context(prompts, request.size))
        doubled = torch.cat([latent, latent])
        context = model.context([*prompts, *([""] * len(latent))], request.size)
        conditional, unconditional = model(doubled, timestep.expand(len(doubled)), context).chunk(2)
    return unconditional + sampling.guidance * (conditional - unconditional)


def decode(model: TinyModel, latents: Tensor) -> list[Any]:
    """Turns latents (batch, 48, h, w) into images: arrays (height, width, 3) in [0, 1]."""
    decoded = model.transform.decode(latents).add(1).div(2)
    return list(decoded.permute(0, 2, 3, 1).double().cpu().numpy())


def _scheduler(sampling: Sampling) -> Any:
    # Ancestral Euler is the only one that does not support models which predict the latent.
    prediction_type = "epsilon" if sampling.sampler == "euler a" else noise_schedule().config.prediction_type
    scheduler = sampling.scheduler(noise_schedule().config, prediction_type=prediction_type, clip_sample=False)
    scheduler.set_timesteps(sampling.steps)
    return scheduler
