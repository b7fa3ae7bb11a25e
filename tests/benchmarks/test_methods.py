"""The methods whose speed is measured: each computes what it should, and can be removed without a trace."""

from __future__ import annotations

import math

import pytest
import tomesd
import torch
from hypothesis import given, strategies
from torch import nn
from torch.nn import functional

from benchmarks.method import settings_label
from benchmarks.peers import tile_count, tile_side
from benchmarks.speed.methods import DEFAULT, METHODS, paper_settings, todo_with
from benchmarks.speed.models import build_unet, call, inputs, latent_size
from tests.unit.plain_attention import attend
from tests.unit.small_models import WebUIModel, hook_counts
from todo import Settings, plan
from todo.unet import find_self_attention

WIDTH = 32
SIZE = (256, 192)
LATENT = (24, 32)
SMALL = (128, 128)


@pytest.fixture(scope="module")
def sd1():
    return build_unet("sd1", torch.device("cpu"), torch.float32, WIDTH)


@pytest.fixture(scope="module")
def sdxl():
    return build_unet("sdxl", torch.device("cpu"), torch.float32, WIDTH)


def output(unet: nn.Module, family: str, name: str, size=SIZE) -> torch.Tensor:
    with METHODS[name].apply(unet, latent_size(size)) as patch:
        if patch:
            patch.at(0, 1)
        return call(unet, inputs(unet, family, size))


def output_with(unet: nn.Module, forward, size=SIZE) -> torch.Tensor:
    """The output with `forward(block, x)` in place of every self-attention outside the middle block."""
    blocks = find_self_attention(unet)
    originals = [vars(block.attention).get("forward") for block in blocks]
    for block in blocks:
        block.attention.forward = lambda x, *_, block=block, **__: forward(block, x)
    try:
        return call(unet, inputs(unet, "sd1", size))
    finally:
        for block, original in zip(blocks, originals, strict=True):
            if original is None:
                del block.attention.forward
            else:
                block.attention.forward = original


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
@pytest.mark.parametrize("name", METHODS)
def test_removing_a_method_restores_the_unet(family, name, request):
    unet = request.getfixturevalue(family)
    hooks, attributes = hook_counts(unet), [set(vars(module)) for module in unet.modules()]
    classes = [type(module) for module in unet.modules()]
    dense = call(unet, inputs(unet, family, SMALL))
    output(unet, family, name, SMALL)
    assert torch.equal(call(unet, inputs(unet, family, SMALL)), dense)

    def fail(*_):
        raise ArithmeticError

    handle = unet.register_forward_hook(fail)
    with pytest.raises(ArithmeticError):
        output(unet, family, name, SMALL)
    handle.remove()
    assert hook_counts(unet) == hooks == {}
    assert [set(vars(module)) for module in unet.modules()] == attributes
    assert [type(module) for module in unet.modules()] == classes


def test_dense_is_the_unchanged_unet(sd1):
    assert torch.equal(output(sd1, "sd1", "dense"), call(sd1, inputs(sd1, "sd1", SIZE)))


@pytest.mark.parametrize(("name", "settings"), [(DEFAULT, Settings()), ("ToDo, 32 per side", Settings(grid=32))])
def test_todo_is_named_after_its_settings(name, settings):
    assert METHODS[name].settings(LATENT) == settings
    assert todo_with(settings).name == name


@pytest.mark.parametrize(
    ("settings", "label"),
    [
        (Settings(grid=64), "grid 64"),
        (Settings(grid=32, taper=True), "grid 32, taper True"),
        (Settings(factor=2), "factor 2"),
        (Settings(factor=2.5, deep_factor=2, end=0.8), "factor 2.5, deep factor 2, end 0.8"),
        (Settings(mode="auto", grid=64, factor=3), "grid 64"),
    ],
)
def test_a_label_names_changed_settings_of_the_mode(settings, label):
    assert settings_label(settings) == label


@pytest.mark.parametrize(("side", "factor"), [(512, 1), (1024, 2), (1536, 3), (2048, 4), (8192, 8)])
def test_the_papers_factors(side, factor):
    """Source: the authors' demonstration for SD1.5."""
    settings = paper_settings((side // 8, side // 8))
    assert (settings.factor, settings.deep_factor, settings.phase) == (factor, 1, "fixed")


def test_the_papers_settings_compute_what_the_authors_code_does(sd1):
    """Keys and values of the finest level by permute, interpolate and permute, separately for each.

    Source: the authors' implementation, ethansmith2000/ImprovedTokenMerge.
    """
    size, grid = (1024, 64), (8, 128)
    small = [side // 2 for side in grid]

    def forward(block, x):
        if block.resolution > 1:
            return attend(block.attention, x, x)
        planes = x.unflatten(1, grid).permute(0, 3, 1, 2)
        return attend(block.attention, x, functional.interpolate(planes, small).permute(0, 2, 3, 1).flatten(1, 2))

    todo = output(sd1, "sd1", "ToDo paper", size)
    torch.testing.assert_close(todo, output_with(sd1, forward, size), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(output(sd1, "sd1", "dense", size), todo, atol=1e-3)


def test_the_limit_has_one_key(sd1):
    """A single key always has weight 1."""

    def forward(block, x):
        return attend(block.attention, x, x[:, :1])

    torch.testing.assert_close(output(sd1, "sd1", "limit"), output_with(sd1, forward), rtol=1e-4, atol=1e-4)


def test_hypertile_attends_within_tiles(sd1):
    """The same tiles as a mask over the whole score matrix."""

    def forward(block, x):
        attention = block.attention
        height, width = (side // 8 // block.resolution for side in reversed(SIZE))
        minimum = tile_side(LATENT) * block.resolution
        rows = torch.arange(height) // (height // tile_count(height, minimum))
        columns = torch.arange(width) // (width // tile_count(width, minimum))
        tile = (rows[:, None] * width + columns).flatten()
        query, key, value = (
            projection(x).unflatten(2, (attention.heads, -1)).transpose(1, 2)
            for projection in (attention.to_q, attention.to_k, attention.to_v)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=tile[:, None] == tile)
        return attention.to_out(mixed.transpose(1, 2).flatten(2))

    assert tile_side(LATENT) == 16
    tiled = output(sd1, "sd1", "HyperTile")
    assert not torch.allclose(tiled, output(sd1, "sd1", "dense"), atol=1e-3)
    torch.testing.assert_close(tiled, output_with(sd1, forward), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("ratio", [0.5, 0.75])
def test_tomesd_equals_the_package(sd1, ratio):
    model = WebUIModel(sd1)
    torch.manual_seed(0)  # tomesd draws from a copy of torch's default generator
    tomesd.apply_patch(model, ratio=ratio)
    expected = call(sd1, inputs(sd1, "sd1", SIZE))
    tomesd.remove_patch(model)
    for module in model.modules():
        vars(module).pop("_tome_info", None)
    torch.manual_seed(0)
    assert torch.equal(output(sd1, "sd1", f"tomesd {ratio}"), expected)
    assert not torch.allclose(expected, output(sd1, "sd1", "dense"), atol=1e-3)


def test_tomesd_acts_at_sdxls_finest_level(sdxl):
    merged = output(sdxl, "sdxl", "tomesd 0.5", SMALL)
    assert not torch.allclose(merged, output(sdxl, "sdxl", "dense", SMALL), atol=1e-4)


@given(side=strategies.integers(1, 300), minimum=strategies.integers(1, 80))
def test_the_tile_count_is_the_largest_that_the_minimum_allows(side, minimum):
    counts = [count for count in range(1, side + 1) if side % count == 0 and side // count >= minimum]
    assert tile_count(side, minimum) == max(counts, default=1)


@given(
    width=strategies.integers(1, 64).map(lambda count: 8 * count),
    height=strategies.integers(1, 64).map(lambda count: 8 * count),
)
def test_the_tile_side_is_a_power_of_two_that_divides_the_latent(width, height):
    """HyperTile's bounds are 128 and 256 pixels."""
    powers = [2**exponent for exponent in range(10) if width % 2**exponent == height % 2**exponent == 0]
    assert 8 * tile_side((height, width)) == min(max(8 * max(powers), 128), 256)


def test_kept_tokens_of_all_levels_stay_within_the_grid():
    for name in ("ToDo, 64 per side", "ToDo, 32 per side"):
        settings = METHODS[name].settings((256, 256))
        levels = plan(2048, 2048, settings).levels
        assert [math.isqrt(level.kept) * level.resolution for level in levels] == [settings.grid] * len(levels)
