"""Helpers that compare a patched model with the plain reference."""

from __future__ import annotations

import copy

import torch

from tests.unit.plain_attention import replace_attention
from tests.unit.small_models import SD1_BLOCKS, run


def close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    tolerance = 3e-2 if actual.dtype == torch.bfloat16 else 1e-4
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def differs(actual: torch.Tensor, other: torch.Tensor) -> None:
    assert actual.shape == other.shape
    assert (actual - other).abs().max() > 1e-2


class RecordedCalls:
    """Records the input and output of each call of an attention module."""

    def __init__(self, attention: torch.nn.Module):
        self.calls: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._handle = attention.register_forward_hook(
            lambda _, args, output: self.calls.append((args[0].detach().clone(), output.detach().clone()))
        )

    def __enter__(self) -> RecordedCalls:
        return self

    def __exit__(self, *error) -> None:
        self._handle.remove()


def attention_calls(model, given) -> tuple[torch.Tensor, torch.Tensor]:
    with RecordedCalls(model.attention) as recorded:
        run(model, given)
    (call,) = recorded.calls
    return call


def reference_unet(unet, grid, factors: dict[int, float], method="nearest", offset=None):
    """A copy of the UNet with the plain reference at each level in `factors`."""
    reference = copy.deepcopy(unet)
    for resolution, factor in factors.items():
        for path in SD1_BLOCKS[resolution]:
            sides = [side // resolution for side in grid]
            replace_attention(reference, path, *sides, factor, method, offset)
    return reference
