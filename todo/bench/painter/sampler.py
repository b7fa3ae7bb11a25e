"""Draws with the embedded model, by diffusers' samplers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from todo import Patch
from todo.bench.painter.painter import Painter, latent_shape
from todo.unet import find_self_attention

SAMPLERS = {
    "euler": "EulerDiscreteScheduler",
    "euler a": "EulerAncestralDiscreteScheduler",
    "dpm++ 2m": "DPMSolverMultistepScheduler",
    "heun": "HeunDiscreteScheduler",
    "ddim": "DDIMScheduler",
    "lcm": "LCMScheduler",
}
"""diffusers' classes, by the names that the WebUI's users know."""

_HEUN = "heun"
"""Calls the model twice in each step but the last."""


@cache
def noise_schedule() -> Any:
    """Stable Diffusion's noise schedule, as a scheduler of diffusers, which the samplers are made from. The model
    predicts the latent itself: noise has more channels than its first level, and would not pass through it."""
    from diffusers import DDPMScheduler

    return DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="sample")


@dataclass(frozen=True)
class Sampling:
    """How noise becomes a picture. `sharpness` multiplies the queries of self-attention outside the middle block: the
    larger, the fewer keys count for a query. 1 is as the model was trained."""

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
class Order:
    """What is to be drawn: one picture for each seed, of one prompt, `size` = (height, width) in pixels."""

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
def draw(
    painter: Painter, order: Order, patch: Patch | None = None, watch: Callable[[Call], None] | None = None
) -> Tensor:
    """The latents after the last step: (seeds, 48, h, w). The same order gives the same latents.

    Args:
        patch: ToDo's, if it is on the UNet; told before each call where sampling stands.
        watch: told of every call.
    """
    scheduler = _scheduler(order.sampling)
    generators = [torch.Generator().manual_seed(seed) for seed in order.seeds]
    noise = [torch.randn(latent_shape(order.size), generator=each) for each in generators]
    latent = torch.stack(noise).to(painter.device) * scheduler.init_noise_sigma
    # Samplers that add noise take it from each picture's own generator; the others know no such argument.
    own = {"generator": generators} if order.sampling.sampler in ("euler a", "lcm") else {}
    for number, timestep in enumerate(scheduler.timesteps):
        scaled = scheduler.scale_model_input(latent, timestep)
        predicted = predict(painter, order, number, scaled, timestep, patch)
        if watch:
            watch(Call(number, scaled, timestep, predicted))
        if scheduler.config.prediction_type == "epsilon":
            predicted = (latent - predicted) / scheduler.sigmas[number]
        latent = scheduler.step(predicted, timestep, latent, **own, return_dict=False)[0]
    return latent


@torch.inference_mode()
def predict(
    painter: Painter, order: Order, number: int, latent: Tensor, timestep: Tensor, patch: Patch | None
) -> Tensor:
    """One call of the model, guided if the order says so: the predicted latent without noise."""
    sampling = order.sampling
    if patch:
        patch.at(sampling.step(number), sampling.steps)
    prompts = [order.prompt] * len(latent)
    with _sharpened(painter, sampling.sharpness):
        if sampling.guidance == 1.0:
            return painter(latent, timestep.expand(len(latent)), painter.context(prompts, order.size))
        doubled = torch.cat([latent, latent])
        context = painter.context([*prompts, *([""] * len(latent))], order.size)
        told, untold = painter(doubled, timestep.expand(len(doubled)), context).chunk(2)
    return untold + sampling.guidance * (told - untold)


def pictures(painter: Painter, latents: Tensor) -> list[Any]:
    """Latents as arrays (height, width, 3) in [0, 1]."""
    decoded = painter.transform.decode(latents).add(1).div(2)
    return list(decoded.permute(0, 2, 3, 1).double().cpu().numpy())


@contextmanager
def _sharpened(painter: Painter, sharpness: float) -> Iterator[None]:
    def sharpen(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (args[0] * sharpness,)  # queries have no bias

    attentions: list[Any] = [block.attention for block in find_self_attention(painter.unet)] if sharpness != 1 else []
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
