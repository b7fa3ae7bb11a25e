"""A whole sampling loop, for the time from the first step to the last."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from todo import Patch
from todo.bench.models import Inputs, call


def sample(unet: nn.Module, given: Inputs, steps: int, patch: Patch | None) -> Tensor:
    """Euler's method on Stable Diffusion's noise schedule: the latent after the last step.

    Args:
        given: what the UNet is called with; the loop starts from its latent, brought to the schedule's first sigma.
        patch: ToDo's, if it is on the UNet; told before each call where sampling stands.
    """
    from diffusers import EulerDiscreteScheduler

    scheduler: Any = EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    scheduler.set_timesteps(steps, device=given.latent.device)
    latent = given.latent * scheduler.init_noise_sigma
    for step, timestep in enumerate(scheduler.timesteps):
        if patch:
            patch.at(step, steps)
        scaled = scheduler.scale_model_input(latent, timestep)
        noise = call(unet, replace(given, latent=scaled, timesteps=timestep.expand(latent.shape[0])))
        with torch.inference_mode():
            latent = scheduler.step(noise, timestep, latent).prev_sample
    return latent
