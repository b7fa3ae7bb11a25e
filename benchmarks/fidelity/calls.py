"""Single calls of a UNet along a sampling run: recorded dense, and made again with a method."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.hooks import attached
from benchmarks.sampling import Request, Sampling, sharpened
from todo import Patch


@dataclass(frozen=True)
class Call:
    """One call of a UNet.

    Attributes:
        step: the sampling step that it belongs to, counted from 0.
        args, kwargs: of the call.
        output: (batch, channels, h, w). With guidance, the batch has a half with the prompt and a half without.
    """

    step: int
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Tensor


@contextmanager
def recorded(unet: nn.Module, sampling: Sampling, steps: Collection[int], calls: dict[int, Call]) -> Iterator[None]:
    """Stores the first call of each of the given steps in `calls`, for one sampling run within a `with` block."""
    count = 0

    def store(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        nonlocal count
        step = sampling.step(count)
        count += 1
        if step in steps and step not in calls:
            calls[step] = Call(step, args, kwargs, _tensor(output))

    with attached([unet.register_forward_hook(store, with_kwargs=True)]):
        yield


def relative_error(unet: nn.Module, request: Request, call: Call, patch: Patch | None) -> Tensor:
    """The error of a recorded call made again with the method that is applied: the difference over the norm of the
    recorded output, (images, values).

    Args:
        patch: of ToDo, if it is applied.
    """
    if patch:
        patch.at(call.step, request.sampling.steps)
    with sharpened(unet, request.sampling.sharpness):
        output = _tensor(unet(*call.args, **call.kwargs))
    difference, dense = (_by_image(each, len(request.seeds)) for each in (output - call.output, call.output))
    return difference / dense.norm(dim=1, keepdim=True)


def shared_part(errors: Sequence[Tensor]) -> Tensor:
    """How much of the errors of several calls is the same in all of them: the norm of their mean over the mean of their
    norms, (images,). 1 if all are equal, about 1 / √calls if they are independent, 0 if they cancel.

    Args:
        errors: of each call, (images, values).
    """
    norms = torch.stack([error.norm(dim=1) for error in errors]).mean(0)
    return torch.stack(list(errors)).mean(0).norm(dim=1) / norms


def _tensor(output: Any) -> Tensor:
    """A UNet's output, which diffusers wraps."""
    tensor: Tensor = output[0] if isinstance(output, tuple) else getattr(output, "sample", output)
    return tensor


def _by_image(batch: Tensor, images: int) -> Tensor:
    """(images, values): the halves of guidance are joined for each image."""
    return batch.float().unflatten(0, (-1, images)).transpose(0, 1).flatten(1)
