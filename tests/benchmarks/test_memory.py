"""Peak memory worked out from shapes: it equals a real call's, and ToDo never needs more than dense."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.speed import capacity, memory
from benchmarks.speed.memory import LiveStorage, Shadow
from benchmarks.speed.methods import METHODS, set_step, todo_with
from benchmarks.speed.models import MATRIX, SDPA, architecture, build_unet, call, inputs, latent_size
from tests.unit.small_models import hook_counts
from todo import Settings, plan

CPU = torch.device("cpu")
WIDTH = 32
DENSE = METHODS["dense"]
TODO = [
    METHODS["ToDo, 32 per side"],
    todo_with(Settings(mode="manual", factor=1.3, deep_factor=2.5, max_downsample=8)),
    todo_with(Settings(mode="manual", factor=3, method="nearest-exact")),
]
INDEX_BYTES = 8
"""For each kept token: its index, which is cached from step to step."""


@lru_cache
def shadow(family: str, kernel: str = SDPA) -> Shadow:
    return Shadow(architecture(family, torch.float32, WIDTH, kernel).to_empty(device=CPU), family)


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


@pytest.mark.parametrize(
    ("family", "name"),
    [*(("sd1", name) for name in METHODS), ("sdxl", "dense"), ("sdxl", "ToDo, 16 per side")],
)
def test_the_shadows_peak_is_a_real_calls(family, name):
    size = (192, 128)
    unet = build_unet(family, CPU, torch.float32, WIDTH)
    arguments = inputs(unet, family, size, 2)
    method = METHODS[name]
    with method.apply(unet, latent_size(size)) as patch:
        set_step(patch)
        call(unet, arguments)  # fills the cache of indices
        with LiveStorage() as live:
            call(unet, arguments)
    cached_indices = 64 * 1024
    assert live.peak <= shadow(family).peak(method, size, 2) <= live.peak + cached_indices


def test_a_shadow_leaves_no_trace():
    unet = build_unet("sd1", CPU, torch.float32, WIDTH)
    size, method = (576, 128), METHODS["ToDo, 64 per side"]

    def output() -> torch.Tensor:
        with method.apply(unet, latent_size(size)) as patch:
            patch.at(1, 4)
            return call(unet, inputs(unet, "sd1", size))

    before = output()
    Shadow(unet, "sd1").peak(method, size)
    assert torch.equal(output(), before)
    assert hook_counts(unet) == {}


def assert_no_more_than_dense(shadow: Shadow, size: tuple[int, int], methods=TODO) -> None:
    dense = shadow.peak(DENSE, size)
    for method in methods:
        levels = plan(*size, method.settings(latent_size(size)), shadow.family).levels
        kept = sum(level.kept for level in levels if level.kept < level.tokens)
        assert shadow.peak(method, size) <= dense + INDEX_BYTES * kept, (method.name, size)


@pytest.mark.parametrize(
    ("family", "kernel", "size"),
    [
        ("sd1", SDPA, (512, 512)),
        ("sd1", SDPA, (1344, 768)),
        ("sd1", MATRIX, (832, 1088)),
        ("sd1", MATRIX, (2048, 2048)),
        ("sdxl", SDPA, (1376, 1056)),
    ],
)
def test_todo_never_needs_more_than_dense(family, kernel, size):
    assert_no_more_than_dense(shadow(family, kernel), size)


def test_todo_needs_less_if_the_matrix_is_written_out():
    """At the finest level, 8 heads have scores of all queries for a quarter of the keys instead of all. Softmax makes a
    copy, which doubles them."""
    small, size = shadow("sd1", MATRIX), (512, 512)
    queries = 64 * 64
    saved = 2 * 8 * queries * (queries - queries // 4) * 4
    half = todo_with(Settings(mode="manual", factor=2))
    assert small.peak(DENSE, size) - small.peak(half, size) == pytest.approx(saved, rel=0.02)


def test_the_peak_is_measured_within_the_step_window():
    small, size = shadow("sd1", MATRIX), (512, 512)
    whole, late = (todo_with(Settings(mode="manual", factor=2, start=start)) for start in (0, 0.55))
    assert small.peak(late, size) == small.peak(whole, size) < small.peak(DENSE, size)


def test_todo_never_needs_more_if_diffusers_slices_attention():
    from diffusers.models.attention_processor import SlicedAttnProcessor

    unet = architecture("sdxl", torch.float32, WIDTH).to_empty(device=CPU)
    unet.set_attn_processor(SlicedAttnProcessor(1))
    assert_no_more_than_dense(Shadow(unet, "sdxl"), (544, 512), TODO[1:2])


def test_the_largest_side_fits_and_the_next_does_not(monkeypatch):
    monkeypatch.setattr(memory, "LARGEST_SIDE", 2048)
    small = shadow("sd1", MATRIX)
    budget = 2**30
    largest = {}
    for method in (DENSE, METHODS["ToDo, 32 per side"]):
        side = largest[method.name] = small.largest_side(method, budget)
        assert small.peak(method, (side, side)) <= budget < small.peak(method, (side + 64, side + 64))
    assert 0 < largest["dense"] < largest["ToDo, 32 per side"] < 2048


@given(budget=st.integers(0, 2**30), family=st.sampled_from(["sd1", "sdxl"]))
def test_the_largest_side_of_any_budget(budget, family):
    """A binary search over the sides that the family allows. The peak of `Pixels` is the number of pixels."""
    searched = Pixels(family)
    step = {"sd1": 64, "sdxl": 32}[family]
    sides = [side for side in range(step, 16384 + 1, step) if side**2 <= budget]
    assert searched.largest_side(DENSE, budget) == max(sides, default=0)
    assert len(searched.sizes) < 11


class Pixels(Shadow):
    def __init__(self, family: str):
        self.family = family
        self.sizes: list[tuple[int, int]] = []

    def peak(self, method, size, batch=1):
        self.sizes.append(size)
        return size[0] * size[1]


def test_fits_are_written_and_read_back(tmp_path):
    rows = (capacity.Fit(SDPA, "dense", {512: capacity.GIB, 1024: 4 * capacity.GIB}, 1408),)
    fits = capacity.Fits("sd1", 2, 8 * capacity.GIB, rows)
    capacity.write(fits, tmp_path / "memory.json")
    assert capacity.read(tmp_path / "memory.json") == fits
    head, ((row,), _) = capacity.cells(fits)
    assert dict(zip(head, row, strict=True)) == {
        "attention": "scaled_dot_product_attention",
        "method": "dense",
        "512²": "1.00 GiB",
        "1024²": "4.00 GiB",
        "largest square in 8 GiB": "1408²",
    }
