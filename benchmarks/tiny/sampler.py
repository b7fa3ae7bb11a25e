"""Samples from the tiny model with diffusers' schedulers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.hooks import attached
from benchmarks.noise import BETAS
from benchmarks.tiny.model import TinyModel, latent_shape
from todo import Patch
from todo.unet import find_self_attention

SAMPLERS = {
    "euler": "EulerDiscreteScheduler",
    "euler a": "EulerAncestralDiscreteScheduler",
    "dpm++ 2m": "DPMSolverMultistepScheduler",
    "heun": "HeunDiscreteScheduler",
    "ddim": "DDIMScheduler",
    "lcm": "LCMScheduler",
}
"""diffusers' classes by the samplers' names in WebUIs."""

_HEUN = "heun"
"""The sampler that calls the model twice in each step but the last."""


@cache
def noise_schedule() -> Any:
    """Stable Diffusion's noise schedule as a scheduler of diffusers, from whose config the samplers are made.

    The model predicts the latent itself, not the noise, since noise fills more channels than the model's first level
    has.
    """
    from diffusers import DDPMScheduler

    return DDPMScheduler(**BETAS, prediction_type="sample")


@dataclass(frozen=True)
class Sampling:
    """The sampling parameters.

    Attributes:
        sampler: a name in `SAMPLERS`.
        guidance: CFG scale; 1 is none.
        sharpness: multiplies the queries of self-attention outside the middle block, so that attention concentrates on
            fewer keys. 1 leaves them as the model was trained.
    """

    steps: int = 20
    sampler: str = "euler"
    guidance: float = 1.0
    sharpness: float = 1.0

    def step(self, call: int) -> int:
        """The sampling step that call number `call` of the model belongs to, both counted from 0."""
        return call // 2 if self.sampler == _HEUN else call

    def __str__(self) -> str:
        guidance = "" if self.guidance == 1 else f", guidance {self.guidance:g}"
        sharpness = "" if self.sharpness == 1 else f", attention {self.sharpness:g} times sharper"
        return f"{self.sampler}, {self.steps} steps{guidance}{sharpness}"


@dataclass(frozen=True)
class Request:
    """The images to make, as one batch: one of the prompt for each seed.

    Attributes:
        size: (height, width) in pixels.
    """

    prompt: str
    seeds: Sequence[int]
    size: tuple[int, int]
    sampling: Sampling = Sampling()


@dataclass(frozen=True)
class Call:
    """One call of the model.

    Attributes:
        number: counted from 0.
        latent: scaled for the model, (batch, 48, h, w).
        timestep: a scalar.
        predicted: the latent without noise, (batch, 48, h, w).
    """

    number: int
    latent: Tensor
    timestep: Tensor
    predicted: Tensor


@torch.inference_mode()
def sample(
    model: TinyModel, request: Request, patch: Patch | None = None, record: Callable[[Call], None] | None = None
) -> Tensor:
    """The latents after the last step, (seeds, 48, h, w). The same request gives the same latents.

    Args:
        patch: of ToDo, if it is applied. It is told the sampling step before each call.
        record: receives every call.
    """
    scheduler = _scheduler(request.sampling)
    generators = [torch.Generator().manual_seed(seed) for seed in request.seeds]
    noise = [torch.randn(latent_shape(request.size), generator=generator) for generator in generators]
    latent = torch.stack(noise).to(model.device) * scheduler.init_noise_sigma
    # Samplers that add noise draw it from each image's generator. The others have no such argument.
    extras = {"generator": generators} if request.sampling.sampler in ("euler a", "lcm") else {}
    for number, timestep in enumerate(scheduler.timesteps):
        scaled = scheduler.scale_model_input(latent, timestep)
        predicted = predict(model, request, number, scaled, timestep, patch)
        if record:
            record(Call(number, scaled, timestep, predicted))
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
    with _sharpened(model, sampling.sharpness):
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


def _sharpened(model: TinyModel, sharpness: float) -> AbstractContextManager[None]:
    def sharpen(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (args[0] * sharpness,)  # queries have no bias

    attentions: list[Any] = [block.attention for block in find_self_attention(model.unet)] if sharpness != 1 else []
    return attached(attention.to_q.register_forward_pre_hook(sharpen) for attention in attentions)


def _scheduler(sampling: Sampling) -> Any:
    import diffusers

    # Ancestral Euler is the only one that does not support models which predict the latent.
    prediction_type = "epsilon" if sampling.sampler == "euler a" else noise_schedule().config.prediction_type
    scheduler = getattr(diffusers, SAMPLERS[sampling.sampler]).from_config(
        noise_schedule().config, prediction_type=prediction_type, clip_sample=False
    )
    scheduler.set_timesteps(sampling.steps)
    return scheduler
