"""The plan, compared with torch's count of operations on the real UNets at their published sizes."""

from __future__ import annotations

import json
import math
import re

import pytest
import torch

from tests.unit.small_models import SD1
from todo import Settings, SettingsError, patched, plan
from todo.prediction import text
from todo.schedule import touches

MANUAL = Settings(factor=2)
SIXTY_FOUR = Settings(grid=64)
FINEST = Settings(grid=64, max_downsample=1)


def macs(unet, call) -> int:
    """Multiply-accumulates of a call. The counter, which torch 2.0 lacks, counts each as two operations."""
    counting = pytest.importorskip("torch.utils.flop_counter")
    with counting.FlopCounterMode(display=False) as counter, torch.no_grad():
        call(unet)
    assert counter.get_total_flops() % 2 == 0
    return counter.get_total_flops() // 2


def ldm(family: str):
    from ldm.modules.diffusionmodules.openaimodel import UNetModel

    layout = {**SD1, "model_channels": 320, "num_heads": 8, "context_dim": 768}
    if family == "sd2":
        layout |= {"num_heads": -1, "num_head_channels": 64, "use_linear_in_transformer": True, "context_dim": 1024}
    with torch.device("meta"):
        return UNetModel(**layout)


@pytest.fixture(scope="module", params=["sd1", "sd2"])
def family(request):
    return request.param, ldm(request.param)


def ldm_call(width: int, height: int, context: int):
    given = (
        torch.empty(1, 4, height // 8, width // 8, device="meta"),
        torch.empty(1, device="meta"),
        torch.empty(1, 77, context, device="meta"),
    )
    return lambda unet: unet(*given)


SETTINGS = [
    Settings(factor=2, phase="fixed"),
    Settings(factor=3, deep_factor=1.5, max_downsample=4),
    Settings(grid=32, max_downsample=2, method="nearest-exact"),
]


@pytest.mark.parametrize(
    ("width", "height", "settings"),
    [(512, 768, SETTINGS[0]), (512, 768, SETTINGS[2]), (1024, 1024, SETTINGS[1])],
    ids=["paper", "auto", "deep"],
)
def test_work_is_what_ldm_computes(family, width, height, settings):
    name, unet = family
    call = ldm_call(width, height, {"sd1": 768, "sd2": 1024}[name])
    predicted = plan(width, height, settings, family=name)
    dense = macs(unet, call)
    assert predicted.unet.dense == dense
    with patched(unet, settings) as patch:
        patch.at(0, 20)
        lighter = macs(unet, call)
        measured = {(row.level, row.tokens, row.kept) for row in patch.report()}
    assert predicted.unet.todo == lighter < dense
    reached = [level for level in predicted.levels if touches(settings, level.resolution)]
    assert {(level.resolution, level.tokens, level.kept) for level in reached} == measured


def test_attention_work_is_the_products_of_self_attention():
    """The products of every self-attention block, q·Kᵀ and weights·V, calculated from the grids."""
    predicted = plan(1024, 768, MANUAL)
    tokens = [(96 * 128) // 4**level for level in range(4)]
    kept = [tokens[0] // 4, *tokens[1:]]
    blocks = [5, 5, 5, 1]
    widths = [320, 640, 1280, 1280]
    dense = sum(2 * b * n * n * c for b, n, c in zip(blocks, tokens, widths, strict=True))
    lighter = sum(2 * b * n * k * c for b, n, k, c in zip(blocks, tokens, kept, widths, strict=True))
    assert (predicted.attention.dense, predicted.attention.todo) == (dense, lighter)
    assert predicted.attention.change == pytest.approx(lighter / dense - 1)


@pytest.fixture(scope="module")
def sdxl():
    """Stability AI's SDXL base UNet, as configured in diffusers."""
    from diffusers import UNet2DConditionModel
    from diffusers.models.attention_processor import AttnProcessor

    with torch.device("meta"):
        unet = UNet2DConditionModel(
            sample_size=128,
            block_out_channels=(320, 640, 1280),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=(5, 10, 20),
            transformer_layers_per_block=(1, 2, 10),
            cross_attention_dim=2048,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )
    unet.set_attn_processor(AttnProcessor())
    return unet


@pytest.mark.parametrize(
    ("width", "height", "settings"), [(1024, 1024, SETTINGS[0]), (1536, 1024, SETTINGS[1])], ids=["paper", "deep"]
)
def test_work_is_what_sdxl_computes(sdxl, width, height, settings):
    def call(unet):
        unet(
            torch.empty(1, 4, height // 8, width // 8, device="meta"),
            torch.empty(1, device="meta"),
            torch.empty(1, 77, 2048, device="meta"),
            added_cond_kwargs={
                "text_embeds": torch.empty(1, 1280, device="meta"),
                "time_ids": torch.empty(1, 6, device="meta"),
            },
        )

    predicted = plan(width, height, settings, family="sdxl")
    dense = macs(sdxl, call)
    with patched(sdxl, settings) as patch:
        patch.at(0, 20)
        lighter = macs(sdxl, call)
    assert predicted.unet.dense == pytest.approx(dense, rel=0.01)
    assert predicted.unet.todo == pytest.approx(lighter, rel=0.01)
    assert predicted.unet.dense - predicted.unet.todo == dense - lighter > 0


@pytest.mark.parametrize(
    ("width", "height", "settings", "family", "resolutions", "grids", "kept"),
    [
        (1024, 1024, SIXTY_FOUR, "sd1", (1, 2, 4), ((128, 128), (64, 64), (32, 32)), (4096, 1024, 256)),
        (1024, 1024, Settings(), "sd1", (1, 2, 4), ((128, 128), (64, 64), (32, 32)), (2304, 576, 144)),
        (1536, 1536, FINEST, "sd1", (1, 2, 4), ((192, 192), (96, 96), (48, 48)), (4096, 9216, 2304)),
        (2048, 2048, SIXTY_FOUR, "sd2", (1, 2, 4), ((256, 256), (128, 128), (64, 64)), (4096, 1024, 256)),
        (2048, 1024, SIXTY_FOUR, "sdxl", (1, 2), ((64, 128), (32, 64)), (32 * 64, 16 * 32)),
        (1000, 520, MANUAL, "sd1", (1, 2, 4), ((65, 125), (33, 63), (17, 32)), (33 * 63, 2079, 544)),
        (64, 64, Settings(factor=8), "sd1", (1, 2, 4), ((8, 8), (4, 4), (2, 2)), (1, 16, 4)),
    ],
)
def test_levels(width, height, settings, family, resolutions, grids, kept):
    levels = plan(width, height, settings, family).levels
    assert tuple(level.resolution for level in levels) == resolutions
    assert tuple(level.grid for level in levels) == grids
    assert tuple(level.tokens for level in levels) == tuple(math.prod(grid) for grid in grids)
    assert tuple(level.kept for level in levels) == kept
    assert all((level.factor == 1) == (level.kept == level.tokens) for level in levels)


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [((), ""), (("an error in {this}",), "an error in {this}"), (("{} of {}", "1", "2"), "1 of 2")],
)
def test_a_phrase_as_text(phrase, expected):
    assert text(phrase) == expected


def test_summary():
    predicted = plan(1024, 1024, MANUAL)
    less = predicted.unet.times_less
    assert predicted.summary() == f"1024×1024: up to {less:.1f}× faster · keeps 43 % of keys/values"
    assert 1 < less < predicted.attention.times_less < 4


@pytest.mark.parametrize(
    ("window", "share"), [({"end": 0.5}, 0.5), ({"start": 0.25}, 0.75), ({"start": 0.2, "end": 0.6}, 0.4)]
)
def test_steps_outside_the_window_count_as_dense(window, share):
    whole, part = plan(2048, 2048, Settings()), plan(2048, 2048, Settings(**window))
    assert part.unet == whole.unet == whole.overall
    assert part.overall.change == pytest.approx(share * whole.unet.change)
    assert f"up to {part.overall.times_less:.1f}× faster · " in part.summary()


def test_a_taper_saves_less_than_the_full_ratio():
    whole, tapered = plan(2048, 2048, Settings()), plan(2048, 2048, Settings(taper=True))
    assert 0 > tapered.overall.change > whole.overall.change
    half = plan(2048, 2048, Settings(taper=True, end=0.5))
    assert half.overall.change == pytest.approx(tapered.overall.change / 2)


def test_a_small_saving_is_not_rounded_away():
    assert "up to 1.03× faster" in plan(1024, 1024, Settings(grid=64, start=0.9)).summary()


@pytest.mark.parametrize(
    ("size", "settings", "part"),
    [
        ((1024, 1024), SIXTY_FOUR, "keeps 25 % of keys/values"),
        ((1024, 1024), Settings(), "keeps 14 % of keys/values"),
        ((1024, 512), MANUAL, "1024×512: up to 1."),
        ((1024, 1024), Settings(start=0.2, end=0.5), " · steps 20–50 %"),
    ],
)
def test_summary_parts(size, settings, part):
    assert part in plan(*size, settings).summary()


@pytest.mark.parametrize("settings", [FINEST, Settings(factor=1.5), Settings(factor=3, deep_factor=2)])
def test_the_share_is_of_all_levels_and_blocks(settings):
    predicted = plan(1536, 1024, settings)
    kept, tokens = (
        sum(getattr(level, name) * level.blocks for level in predicted.levels) for name in ("kept", "tokens")
    )
    assert f"keeps {kept / tokens:.0%} of keys/values".replace("%", " %") in predicted.summary()


@pytest.mark.parametrize(
    ("size", "settings", "family", "steps", "note"),
    [
        ((448, 448), Settings(), "sd1", 20, "no effect at this size (it acts from about 480×480 on)"),
        ((384, 512), Settings(), "sd2", 0, "no effect at this size (it acts from about 480×480 on)"),
        ((832, 832), Settings(), "sdxl", 20, "no effect at this size (it acts from about 960×960 on)"),
        ((512, 512), Settings(), "sd1", 4, "no effect at this size in so few steps (it acts from about 640×640 on)"),
        ((512, 512), SIXTY_FOUR, "sd1", 20, "no effect at this size (it acts from about 640×640 on)"),
        ((2048, 2048), Settings(factor=1), "sd1", 20, "no effect at a ratio that keeps every token"),
        ((2048, 2048), Settings(start=0.5, end=0.5), "sd1", 20, "no effect with an empty step window"),
        ((2048, 2048), Settings(passes="hires"), "sd1", 20, "no effect in this pass"),
    ],
)
def test_no_effect_is_stated(size, settings, family, steps, note):
    predicted = plan(*size, settings, family, steps=steps)
    assert predicted.note == note
    assert predicted.summary() == f"{size[0]}×{size[1]}: {note}"
    assert predicted.attention.change == predicted.unet.change == 0
    assert all(level.kept == level.tokens for level in predicted.levels)


@pytest.mark.parametrize("steps", [4, 20])
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_it_acts_from_the_size_that_it_names(family, steps):
    note = plan(448, 448, Settings(grid=72), family, steps=steps).note
    (side,) = {int(number) for number in re.findall(r"\d+", note)}
    assert plan(side, side, Settings(grid=72), family, steps=steps).note == ""
    assert plan(side - 64, side - 64, Settings(grid=72), family, steps=steps).note == note


def test_the_reason_for_no_effect_is_stated():
    assert plan(1024, 1024, Settings(passes="hires")).note
    assert plan(1024, 1024, Settings(passes="hires"), hires=True).note == ""
    assert plan(1024, 1024, Settings(start=0.5, end=0.5)).note
    assert plan(1024, 1024, Settings(start=0.5, end=0.7)).note == ""
    assert plan(1024, 1024, Settings(taper=True)).levels == plan(1024, 1024, Settings()).levels


def test_hires_factor():
    settings = Settings(factor=2, hires_factor=4)
    assert plan(1024, 1024, settings).levels[0].factor == 2
    assert plan(1024, 1024, settings, hires=True).levels[0].factor == 4


@pytest.mark.parametrize("field", ["width", "height"])
@pytest.mark.parametrize("value", [0, 63, -1, 16385, 10**9, 512.5, "512px", "", None, True, [512], math.nan, math.inf])
def test_a_wrong_size_is_refused(field, value):
    size = {"width": 512, "height": 512, field: value}
    with pytest.raises(SettingsError) as caught:
        plan(**size, settings=Settings())
    assert caught.value.field == field
    for words in (field, "64", "16384", "missing" if value is None else str(value)[:20]):
        assert words in str(caught.value)


def test_numbers_may_come_as_text():
    assert plan("1024", 768.0, MANUAL, "sdxl", "false") == plan(1024, 768, MANUAL, "sdxl")


@pytest.mark.parametrize("field", ["width", "height"])
def test_a_size_longer_than_python_prints_is_refused(field):
    with pytest.raises(SettingsError) as caught:
        plan(**{"width": 512, "height": 512, field: 10**5000}, settings=Settings())
    assert caught.value.field == field


@pytest.mark.parametrize("family", ["sd3", "", "SD1", None, 1, ["sd1"], {}])
def test_a_wrong_family_is_refused(family):
    with pytest.raises(SettingsError) as caught:
        plan(512, 512, Settings(), family=family)
    assert caught.value.field == "family"
    for words in ("family", "sd1", "sd2", "sdxl", "missing" if family is None else str(family)):
        assert words in str(caught.value)


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
@pytest.mark.parametrize("size", [(64, 64), (64, 16384), (16384, 64), (16384, 16384), (1000, 999), (65, 71)])
def test_bounds_of_the_size(family, size):
    predicted = plan(*size, Settings(grid=16, max_downsample=8), family)
    assert 0 < predicted.unet.todo <= predicted.unet.dense
    assert 0 < predicted.attention.todo <= predicted.attention.dense < predicted.unet.dense
    factors = [level.factor for level in predicted.levels]
    assert max(factors) == pytest.approx(min(factors), rel=0.15), "the same, but for the rounding of odd sides"
    assert f"{size[0]}×{size[1]}" in predicted.summary()


def test_the_plan_as_json():
    predicted = plan(1024, 768, MANUAL, family="sdxl")
    loaded = json.loads(json.dumps(predicted.to_dict()))
    assert (loaded["width"], loaded["height"], loaded["family"]) == (1024, 768, "sdxl")
    assert loaded["summary"] == predicted.summary()
    assert loaded["unet"] == {"dense": predicted.unet.dense, "todo": predicted.unet.todo}
    assert [level["tokens"] for level in loaded["levels"]] == [level.tokens for level in predicted.levels]
