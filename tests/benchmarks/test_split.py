"""The split of a call's time, with a clock that ticks whenever it is read, so that each block takes one tick."""

from __future__ import annotations

from itertools import count

import pytest
import torch

from benchmarks.speed import split
from benchmarks.speed.methods import METHODS
from benchmarks.speed.models import build_unet, call, inputs
from benchmarks.speed.split import KINDS, Split, watched
from tests.unit.small_models import diffusers_unet, hook_counts
from tests.unit.small_models import inputs as small_inputs
from tests.unit.small_models import run as run_small

# Blocks of the published architectures: residual blocks of the way down, middle and way up, resampling layers, and the
# first and last convolution. The layers of a stage without attention count as one block.
SD1_CONVOLUTIONS = (8 + 2 + 12) + (3 + 3) - 1 + 2  # the coarsest residual block includes the upsampling
SDXL_CONVOLUTIONS = (4 + 2 + 6) + (1 + 2) + 2 + 2  # the finest level has no attention, on the way down and up
SD1 = {"self-attention": 16, "cross-attention": 16, "feed-forward": 16, "convolution": SD1_CONVOLUTIONS}
SDXL = {"self-attention": 70, "cross-attention": 70, "feed-forward": 70, "convolution": SDXL_CONVOLUTIONS}
LEVELS = {
    "sd1": {"1": 5, "2": 5, "4": 5, "middle": 1},
    "sd2": {"1": 5, "2": 5, "4": 5, "middle": 1},
    "sdxl": {"1": 10, "2": 50, "middle": 10},
}


@pytest.fixture(autouse=True)
def _ticking(monkeypatch):
    monkeypatch.setattr(split, "now", lambda device: count().__next__)


def watch(unet, arguments) -> Split:
    with watched(unet) as watch:
        call(unet, arguments)
    return watch.split()


def whole(blocks: dict[str, int]) -> dict[str, int]:
    """All ticks: one in each block, one before each block, and one after the last."""
    return {**blocks, "other": sum(blocks.values()) + 1}


@pytest.mark.parametrize(("family", "blocks"), [("sd1", SD1), ("sd2", SD1), ("sdxl", SDXL)])
def test_every_block_is_counted_once(family, blocks):
    unet = build_unet(family, torch.device("cpu"), torch.float32, 32)
    split = watch(unet, inputs(unet, family, (64, 64)))
    assert split.kinds == whole(blocks)
    assert list(split.kinds) == list(KINDS)
    assert split.levels == LEVELS[family]
    assert split.total == sum(whole(blocks).values())
    assert hook_counts(unet) == {}


@pytest.mark.parametrize("name", METHODS)
def test_a_methods_hooks_are_measured_within_the_blocks(name):
    unet = build_unet("sd1", torch.device("cpu"), torch.float32, 32)
    with METHODS[name].apply(unet, (16, 16)):
        assert watch(unet, inputs(unet, "sd1", (128, 128))).kinds == whole(SD1)


def test_work_in_a_methods_hook_counts_as_the_blocks(monkeypatch):
    """Such as HyperTile's, whose hooks are registered before the watch."""
    ticks = count()
    monkeypatch.setattr(split, "now", lambda device: ticks.__next__)
    unet = build_unet("sd1", torch.device("cpu"), torch.float32, 32)
    for name, module in unet.named_modules():
        if name.endswith("attn1"):
            module.register_forward_pre_hook(lambda *_: next(ticks) and None)
    assert watch(unet, inputs(unet, "sd1", (64, 64))).kinds == {**whole(SD1), "self-attention": 2 * 16}


def test_diffusers_unets_are_supported():
    unet = diffusers_unet(mid_block_type="UNetMidBlock2DCrossAttn")
    with watched(unet) as watch:
        run_small(unet, small_inputs(16, 16))
    # Per level one block on the way down and two on the way up; the middle block has two residual blocks.
    assert watch.split().levels == {"1": 3, "2": 3, "middle": 1}
    assert watch.split().kinds["convolution"] == (2 + 4 + 2) + 2 + 2


def test_several_calls_give_their_mean():
    unet = build_unet("sd1", torch.device("cpu"), torch.float32, 32)
    arguments = inputs(unet, "sd1", (64, 64))
    with watched(unet) as watch:
        for _ in range(3):
            call(unet, arguments)
    assert watch.split().kinds == pytest.approx(whole(SD1))
    assert watch.split().levels == pytest.approx(LEVELS["sd1"])
