"""Peak memory worked out from shapes: it is what a real call holds, and ToDo never holds more than dense."""

from __future__ import annotations

import pytest
import torch
from small_models import hook_counts

from todo import Settings, plan
from todo.bench import fits
from todo.bench.memory import LiveStorage, Shadow
from todo.bench.methods import METHODS, Picture, todo_method
from todo.bench.models import MATRIX, SDPA, architecture, build_unet, call, inputs

CPU = torch.device("cpu")
WIDTH = 32
DENSE = METHODS["dense"]
TODO = [
    METHODS["ToDo grid 32, max downsample 4"],
    todo_method(Settings(mode="manual", factor=1.3, deep_factor=2.5, max_downsample=8)),
    todo_method(Settings(mode="manual", factor=3, method="area")),
]
INDICES = 8
"""Bytes for each kept token: where it stands, for every level, which is kept from step to step."""


def shadow(family: str, kernel: str = SDPA) -> Shadow:
    return Shadow(architecture(family, torch.float32, WIDTH, kernel).to_empty(device=CPU), family)


def test_live_storage_counts_what_is_held_at_once():
    with LiveStorage() as live:
        first = torch.ones(1000)
        second = first + 1
        del first
        view = second[:10]
        third = second.reshape(10, 100) * 2
        second += 1
    assert live.made == [4000] * 3
    assert live.peak == 8000
    assert view.numel() + third.numel() == 1010


@pytest.mark.parametrize(
    ("family", "name"),
    [*(("sd1", name) for name in METHODS), ("sdxl", "dense"), ("sdxl", "ToDo grid 16, max downsample 4")],
)
def test_a_shadows_peak_is_a_real_calls(family, name):
    size = (192, 128)
    unet = build_unet(family, CPU, torch.float32, WIDTH)
    given = inputs(unet, family, size, 2)
    method = METHODS[name]
    with method.on(unet, Picture(*size, family)) as patch:
        if patch:
            patch.at(0, 1)
        call(unet, given)  # indices that are kept from call to call
        with LiveStorage() as live:
            call(unet, given)
    kept_indices = 64 * 1024
    assert live.peak <= Shadow(unet, family).peak(method, size, 2) <= live.peak + kept_indices


def test_a_shadow_leaves_no_trace():
    unet = build_unet("sd1", CPU, torch.float32, WIDTH)
    size, method = (576, 128), METHODS["ToDo"]

    def output() -> torch.Tensor:
        with method.on(unet, Picture(*size, "sd1")) as patch:
            patch.at(1, 4)
            return call(unet, inputs(unet, "sd1", size))

    before = output()
    Shadow(unet, "sd1").peak(method, size)
    assert torch.equal(output(), before)
    assert hook_counts(unet) == {}


def assert_no_more_than_dense(shadow: Shadow, size: tuple[int, int]) -> None:
    dense = shadow.peak(DENSE, size)
    for method in TODO:
        levels = plan(*size, method.settings(Picture(*size, shadow.family)), shadow.family).levels
        kept = sum(level.kept for level in levels if level.kept < level.tokens)
        assert shadow.peak(method, size) <= dense + INDICES * kept, (method.name, size)


@pytest.mark.parametrize(("family", "kernel"), [("sd1", SDPA), ("sd1", MATRIX), ("sdxl", SDPA)])
def test_todo_never_holds_more_than_dense(family, kernel):
    small = shadow(family, kernel)
    for size in ((512, 512), (1344, 768), (2048, 2048)):
        assert_no_more_than_dense(small, size)


def test_todo_never_holds_more_where_diffusers_slices_attention():
    from diffusers.models.attention_processor import SlicedAttnProcessor

    unet = architecture("sdxl", torch.float32, WIDTH).to_empty(device=CPU)
    unet.set_attn_processor(SlicedAttnProcessor(1))
    assert_no_more_than_dense(Shadow(unet, "sdxl"), (1088, 1024))


def test_the_largest_side_fits_and_the_next_does_not():
    small = shadow("sd1", MATRIX)
    budget = 2**30
    largest = {}
    for method in (DENSE, METHODS["ToDo grid 32"]):
        side = largest[method.name] = small.largest_side(method, budget)
        assert small.peak(method, (side, side)) <= budget < small.peak(method, (side + 64, side + 64))
    assert largest["dense"] < largest["ToDo grid 32"]
    assert small.largest_side(DENSE, 0) == 0


def test_fits_are_written_as_they_are(tmp_path):
    rows = (fits.Fit(SDPA, "dense", {512: fits.GIB, 1024: 4 * fits.GIB}, 1408),)
    found = fits.Fits("sd1", 2, 8 * fits.GIB, rows)
    fits.write(found, tmp_path / "made" / "memory.json")
    assert fits.read(tmp_path / "made" / "memory.json") == found
    assert fits.table(found).splitlines()[2].split(" | ")[1:] == ["dense", "1.00 GiB", "4.00 GiB", "1408² |"]
