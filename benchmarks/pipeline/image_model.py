"""Makes images with a pipeline of diffusers. Text encoder, sampling loop and VAE can be called separately."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.method import LatentSize
from benchmarks.sampling import Request, sharpened
from todo import Patch

_EMBEDDINGS = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
"""What `encode_prompt` returns; SD1 and SD2 have no pooled ones."""


class PipelineImageModel:
    """A pipeline of SD1, SD2 or SDXL as a `benchmarks.sampling.ImageModel`."""

    def __init__(self, pipeline: Any):
        self.pipeline = pipeline
        self._noise_schedule = pipeline.scheduler.config

    @property
    def unet(self) -> nn.Module:
        unet: nn.Module = self.pipeline.unet
        return unet

    @property
    def device(self) -> torch.device:
        return next(self.unet.parameters()).device

    def latent_size(self, size: tuple[int, int]) -> LatentSize:
        height, width = (side // self.pipeline.vae_scale_factor for side in size)
        return height, width

    def sample(self, request: Request, patch: Patch | None = None) -> Tensor:
        return self.denoise(request, self.encode(request), patch)

    @torch.no_grad()
    def encode(self, request: Request) -> dict[str, Tensor]:
        """The embeddings of the prompt, and of the empty negative prompt with guidance, as arguments of a call."""
        guided = request.sampling.guidance > 1 and self.pipeline.unet.config.time_cond_proj_dim is None
        encoded = self.pipeline.encode_prompt(
            request.prompt, device=self.device, num_images_per_prompt=len(request.seeds),
            do_classifier_free_guidance=guided,
        )  # fmt: skip
        named = zip(_EMBEDDINGS, encoded, strict=False)
        return {name: embedding for name, embedding in named if embedding is not None}

    def denoise(self, request: Request, embeddings: dict[str, Tensor], patch: Patch | None = None) -> Tensor:
        """The sampling loop alone: the latents after the last step, (seeds, channels, h, w).

        Noise comes from generators of the CPU, so that every device starts from the same.

        Args:
            embeddings: of the prompt, from `encode`.
            patch: of ToDo, if it is applied. It is told the sampling step before each call.
        """
        sampling = request.sampling
        self.pipeline.scheduler = sampling.scheduler(self._noise_schedule)

        def tell(pipeline: Any, call: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
            if patch:
                patch.at(sampling.step(call + 1), sampling.steps)
            return values

        if patch:
            patch.at(0, sampling.steps)
        height, width = request.size
        with sharpened(self.unet, sampling.sharpness):
            latents: Tensor = self.pipeline(
                **embeddings, height=height, width=width, num_inference_steps=sampling.steps,
                guidance_scale=sampling.guidance, output_type="latent", callback_on_step_end=tell,
                generator=[torch.Generator().manual_seed(seed) for seed in request.seeds],
            ).images  # fmt: skip
        return latents

    @torch.no_grad()
    def decode(self, latents: Tensor) -> list[Any]:
        vae = self.pipeline.vae
        scaled = latents.to(vae.dtype) / vae.config.scaling_factor
        decoded = torch.cat([vae.decode(each[None], return_dict=False)[0] for each in scaled])
        images = self.pipeline.image_processor.postprocess(decoded, output_type="np")
        return list(images.astype(float))
