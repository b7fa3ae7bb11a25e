"""What is asked of a model that makes images: the sampling parameters and the images."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, device, nn

from benchmarks.hooks import attached
from benchmarks.method import LatentSize
from todo import Patch
from todo.unet import find_self_attention

SAMPLERS: dict[str, tuple[str, dict[str, str]]] = {
    "euler": ("EulerDiscreteScheduler", {}),
    "euler a": ("EulerAncestralDiscreteScheduler", {}),
    "dpm++ 2m": ("DPMSolverMultistepScheduler", {}),
    "dpm++ 2m sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "heun": ("HeunDiscreteScheduler", {}),
    "ddim": ("DDIMScheduler", {}),
    "lcm": ("LCMScheduler", {}),
}
"""diffusers' classes and their options, by the samplers' names in WebUIs."""

ADD_NOISE = ("euler a", "dpm++ 2m sde", "lcm")
"""The samplers that add noise in each step."""

_HEUN = "heun"
"""The sampler that calls the model twice in each step but the last."""


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

    def scheduler(self, config: Any, **options: Any) -> Any:
        """A scheduler of diffusers for a noise schedule's `config`."""
        import diffusers

        name, own = SAMPLERS[self.sampler]
        return getattr(diffusers, name).from_config(config, **own, **options)

    def step(self, call: int) -> int:
        """The sampling step that call number `call` of the model belongs to, both counted from 0."""
        return call // 2 if self.sampler == _HEUN else call

    def __str__(self) -> str:
        guidance = "" if self.guidance == 1 else f", CFG {self.guidance:g}"
        sharpness = "" if self.sharpness == 1 else f", attention {self.sharpness:g} times sharper"
        return f"{self.sampler}, {self.steps} steps{guidance}{sharpness}"


PUBLISHED = Sampling(25, "dpm++ 2m", 5.0)
"""The condition of the published figures of fidelity: what many people run."""


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


class ImageModel(Protocol):
    """What makes images for requests: the embedded model, or a pipeline of diffusers."""

    @property
    def unet(self) -> nn.Module:
        """The UNet that methods are applied to."""

    @property
    def device(self) -> device:
        """Where the UNet is."""

    def latent_size(self, size: tuple[int, int]) -> LatentSize:
        """The latent's (height, width) for an image of `size` = (height, width) in pixels."""

    def sample(self, request: Request, patch: Patch | None = None) -> Tensor:
        """The latents after the last step, one for each seed. The same request gives the same latents.

        Args:
            patch: of ToDo, if it is applied. It is told the sampling step before each call.
        """

    def decode(self, latents: Tensor) -> list[Any]:
        """Turns latents into images: arrays (height, width, 3) in [0, 1]."""


def sharpened(unet: nn.Module, sharpness: float) -> AbstractContextManager[None]:
    """Multiplies the queries of self-attention outside the middle block within a `with` block."""

    def sharpen(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (args[0] * sharpness,)  # queries have no bias

    attentions: list[Any] = [block.attention for block in find_self_attention(unet)] if sharpness != 1 else []
    return attached(attention.to_q.register_forward_pre_hook(sharpen) for attention in attentions)
