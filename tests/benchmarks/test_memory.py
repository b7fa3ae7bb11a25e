"""Peak memory of a call: with ToDo never more than dense, and less where the matrix of scores is written out."""

from __future__ import annotations

import pytest
import torch
from ldm.modules.attention import CrossAttention

from benchmarks.method import DENSE, Method
from benchmarks.speed.methods import METHODS, per_side, set_step, todo_with
from benchmarks.speed.models import build_unet, call, inputs, latent_size
from tests.unit.live_storage import LiveStorage
from todo import Settings, plan

TODO = [
    METHODS[per_side(32)],
    todo_with(Settings(mode="manual", factor=1.3, deep_factor=2.5, max_downsample=8)),
    todo_with(Settings(mode="manual", factor=3, method="nearest-exact")),
]
INDEX_BYTES = 8
"""For each kept token: its index, which is cached from step to step."""


def test_live_storage_counts_what_is_held_at_once():
    outside = torch.ones(5000)
    with LiveStorage() as live:
        outside[:10].add_(1)
        first = torch.ones(1000)
        second = first + 1
        del first
        view = second[:10]
        third = second.reshape(10, 100) * 2
        second += 1
    assert live.allocated == [4000] * 3
    assert live.peak == 8000
    assert view.numel() + third.numel() == 1010


def peak(unet: torch.nn.Module, family: str, size: tuple[int, int], method: Method) -> int:
    with method.apply(unet, latent_size(size)) as patch:
        set_step(patch)
        arguments = inputs(unet, family, size)
        with LiveStorage() as live:
            call(unet, arguments)
    return live.peak


@pytest.mark.parametrize(("family", "size"), [("sd1", (512, 512)), ("sd1", (832, 448)), ("sdxl", (992, 672))])
def test_todo_never_needs_more_than_dense(family, size):
    unet = build_unet(family, torch.device("cpu"), torch.float32, 32)
    dense = peak(unet, family, size, METHODS[DENSE])
    for method in TODO:
        levels = plan(*size, method.settings(latent_size(size)), family).levels
        kept = sum(level.kept for level in levels if level.kept < level.tokens)
        assert kept, "otherwise nothing is compared"
        assert peak(unet, family, size, method) <= dense + INDEX_BYTES * kept, method.name


def test_todo_needs_less_if_the_matrix_is_written_out():
    """At the finest level, 8 heads have scores of all queries for a quarter of the keys instead of all. Softmax makes a
    copy, which doubles them."""
    unet = build_unet("sd1", torch.device("cpu"), torch.float32, 32)
    for module in unet.modules():
        if isinstance(module, CrossAttention):
            del module.forward  # ldm's own again
    queries = 32 * 32
    saved = 2 * 8 * queries * (queries - queries // 4) * 4
    half = todo_with(Settings(mode="manual", factor=2))
    dense, todo = (peak(unet, "sd1", (256, 256), method) for method in (METHODS[DENSE], half))
    assert dense - todo == pytest.approx(saved, rel=0.02)
