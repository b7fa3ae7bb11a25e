"""Samples from the tiny model, with diffusers' samplers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

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
"""diffusers' classes, under the names that WebUI users know."""

_HEUN = "heun"
"""Calls the model twice in each step but the last."""


@cache
def noise_schedule() -> Any:
    """Stable Diffusion's noise schedule, as a scheduler of diffusers, which the samplers are made from. The model
    predicts the latent itself: noise has more channels than its first level and would not pass through it."""
    from diffusers import DDPMScheduler

    return DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="sample")


@dataclass(frozen=True)
class Sampling:
    """How noise becomes an image. `sharpness` multiplies the queries of self-attention outside the middle block: the
    larger it is, the fewer keys count for a query. 1 is as the model was trained."""

    steps: int = 20
    sampler: str = "euler"
    guidance: float = 1.0
    sharpness: float = 1.0

    def step(self, call: int) -> int:
        """The sampler's step that the model's call number `call` belongs to."""
        return call // 2 if self.sampler == _HEUN else call

    def __str__(self) -> str:
        guidance = "" if self.guidance == 1 else f", guidance {self.guidance:g}"
        sharpness = "" if self.sharpness == 1 else f", attention {self.sharpness:g} times sharper"
        return f"{self.sampler}, {self.steps} steps{guidance}{sharpness}"


@dataclass(frozen=True)
class Request:
    """The images to make: one for each seed, of one prompt, `size` = (height, width) in pixels."""

    prompt: str
    seeds: Sequence[int]
    size: tuple[int, int]
    sampling: Sampling = Sampling()


@dataclass(frozen=True)
class Call:
    """One call of the model: its number, the scaled latent (batch, 48, h, w), the timestep, and what it predicted."""

    number: int
    latent: Tensor
    timestep: Tensor
    predicted: Tensor


@torch.inference_mode()
def sample(
    model: TinyModel, request: Request, patch: Patch | None = None, watch: Callable[[Call], None] | None = None
) -> Tensor:
    """The latents after the last step: (seeds, 48, h, w). The same request gives the same latents.

    Args:
        patch: ToDo's, if it is on the UNet. It learns before each call where sampling stands.
        watch: is given every call.
    """
    scheduler = _scheduler(request.sampling)
    generators = [torch.Generator().manual_seed(seed) for seed in request.seeds]
    noise = [torch.randn(latent_shape(request.size), generator=each) for each in generators]
    latent = torch.stack(noise).to(model.device) * scheduler.init_noise_sigma
    # Samplers that add noise draw it from each image's own generator; the others have no such argument.
    own = {"generator": generators} if request.sampling.sampler in ("euler a", "lcm") else {}
    for number, timestep in enumerate(scheduler.timesteps):
        scaled = scheduler.scale_model_input(latent, timestep)
        predicted = predict(model, request, number, scaled, timestep, patch)
        if watch:
            watch(Call(number, scaled, timestep, predicted))
        if scheduler.config.prediction_type == "epsilon":
            predicted = (latent - predicted) / scheduler.sigmas[number]
        latent = scheduler.step(predicted, timestep, latent, **own, return_dict=False)[0]
    return latent


@torch.inference_mode()
def predict(
    model: TinyModel, request: Request, number: int, latent: Tensor, timestep: Tensor, patch: Patch | None
) -> Tensor:
    """One call of the model, with guidance if the request asks for it: the predicted latent without noise."""
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
    """The images of latents: arrays (height, width, 3) in [0, 1]."""
    decoded = model.transform.decode(latents).add(1).div(2)
    return list(decoded.permute(0, 2, 3, 1).double().cpu().numpy())


@contextmanager
def _sharpened(model: TinyModel, sharpness: float) -> Iterator[None]:
    def sharpen(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (args[0] * sharpness,)  # queries have no bias

    attentions: list[Any] = [block.attention for block in find_self_attention(model.unet)] if sharpness != 1 else []
    handles = [attention.to_q.register_forward_pre_hook(sharpen) for attention in attentions]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _scheduler(sampling: Sampling) -> Any:
    import diffusers

    # Ancestral Euler is the one that does not know models which predict the latent.
    predicted = "epsilon" if sampling.sampler == "euler a" else noise_schedule().config.prediction_type
    scheduler = getattr(diffusers, SAMPLERS[sampling.sampler]).from_config(
        noise_schedule().config, prediction_type=predicted, clip_sample=False
    )
    scheduler.set_timesteps(sampling.steps)
    return scheduler
