"""The bench on a narrow UNet: what it counts, writes and promises. How long anything takes is not tested."""

from __future__ import annotations

import json
import statistics

import pytest
import torch
from ldm.modules.attention import BasicTransformerBlock, CrossAttention
from PIL import Image

from todo import Settings, patched, plan
from todo.bench import models, report, speed
from todo.families import FAMILIES

WIDTH = 32
ROUNDS = 2
SIZES = [(256, 128), (128, 128)]
SETTINGS = [Settings(grid=16), Settings(mode="manual", factor=3, deep_factor=2, max_downsample=2, method="area")]


@pytest.fixture(scope="module")
def unet():
    return models.build_unet(torch.device("cpu"), torch.float32, WIDTH)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A whole run: the result, its folder."""
    output = tmp_path_factory.mktemp("bench") / "made" / "here"
    return report.run(SIZES, SETTINGS, ROUNDS, output, WIDTH), output


@pytest.fixture(scope="module")
def figures(ran):
    return json.loads((ran[1] / "bench.json").read_text(encoding="utf-8"))


def test_the_architecture_is_sd15():
    unet = models.architecture(torch.float16)
    # Source: the size of SD1.5's UNet as its model card and diffusers give it.
    assert sum(parameter.numel() for parameter in unet.parameters()) == 859_520_964


def test_weights_are_the_same_on_every_build_and_nothing_overflows(unet):
    again = models.build_unet(torch.device("cpu"), torch.float32, WIDTH)
    timer = speed._Timer(unet, bar())
    picture = speed._inputs(unet, (128, 128))
    output = timer.call(picture)[1]
    assert torch.isfinite(output).all()
    assert 0.1 < output.std() < 10
    assert torch.equal(output, speed._Timer(again, bar()).call(picture)[1])


def test_attention_computes_what_ldms_own_does(unet):
    block = next(module for module in unet.modules() if isinstance(module, BasicTransformerBlock))
    x, context = torch.randn(2, 24, WIDTH), torch.randn(2, 7, FAMILIES["sd1"].context)
    with torch.no_grad():
        for attention, given in ((block.attn1, None), (block.attn2, context)):
            torch.testing.assert_close(attention(x, context=given), CrossAttention.forward(attention, x, given))


def test_rows_stand_for_each_size_with_each_settings(ran):
    asked = [(size, settings) for size in SIZES for settings in SETTINGS]
    assert [((row.plan.width, row.plan.height), row.settings) for row in ran[0].rows] == asked
    assert all(row.plan == plan(*size, settings) for row, (size, settings) in zip(ran[0].rows, asked, strict=True))


def test_tokens_are_what_the_patch_counted(ran):
    """Five blocks a level, once a round; levels as SD1.5 has them."""
    auto, manual, none, _ = ran[0].rows
    counted = [speed.Counted(1, (16, 32), 512, 8 * 16, 5 * ROUNDS, 5 * ROUNDS)]
    assert list(auto.counted) == counted
    counted = [
        speed.Counted(1, (16, 32), 512, 6 * 11, 5 * ROUNDS, 5 * ROUNDS),
        speed.Counted(2, (8, 16), 128, 4 * 8, 5 * ROUNDS, 5 * ROUNDS),
    ]
    assert list(manual.counted) == counted
    assert none.plan.note
    assert list(none.counted) == [speed.Counted(1, (16, 16), 256, 256, 5 * ROUNDS, 0)]


def test_the_step_window_and_taper_are_met_at_their_beginning(unet):
    settings = Settings(grid=16, start=0.55, end=0.6, taper=True)
    (row,) = speed.measure(unet, [(256, 256)], [settings], 1).rows
    assert row.counted[0].kept == row.plan.levels[0].kept == 16 * 16


def test_removal_is_checked(unet, ran, monkeypatch):
    assert ran[0].identical
    monkeypatch.setattr(speed, "patched", leaving_a_trace)
    with torch.no_grad():
        bias = unet.out[-1].bias.clone()
    assert not speed.measure(unet, [(128, 128)], [Settings(mode="manual")], 1).identical
    with torch.no_grad():
        unet.out[-1].bias.copy_(bias)


def test_a_patch_without_effect_is_an_error(unet, monkeypatch):
    monkeypatch.setattr(speed, "patched", lambda unet, _: patched(unet, Settings(start=1, end=1)))
    with pytest.raises(RuntimeError, match=r"nothing was downsampled: .*outside the step window"):
        speed.measure(unet, [(128, 128)], [Settings(mode="manual")], 1)


def test_json_has_every_figure_and_they_agree(ran, figures):
    result, _ = ran
    assert figures["rounds"] == ROUNDS
    assert figures["identical_after_removal"] is True
    assert figures["environment"]["torch"] == torch.__version__
    assert figures["environment"]["dtype"] == "float32"
    assert figures["environment"]["parameters"] > 0
    assert len(figures["rows"]) == len(result.rows)
    for row, made in zip(figures["rows"], result.rows, strict=True):
        assert row["settings"] == made.settings.to_dict()
        assert row["plan"] == json.loads(json.dumps(made.plan.to_dict()))
        assert (row["width"], row["height"]) == (made.plan.width, made.plan.height)
        dense, todo = row["dense_seconds"], row["todo_seconds"]
        ratios = [a / b for a, b in zip(dense["rounds"], todo["rounds"], strict=True)]
        for figure, values in ((dense, dense["rounds"]), (todo, todo["rounds"]), (row["speedup"], ratios)):
            assert len(values) == ROUNDS
            assert figure["median"] == pytest.approx(statistics.median(values))
            assert (figure["low"], figure["high"]) == pytest.approx((min(values), max(values)))
        assert row["time_change"] == pytest.approx(1 / row["speedup"]["median"] - 1)
        assert row["predicted_unet_work_change"] == made.plan.unet.change


def test_table_shows_each_row_once(ran):
    lines = report.table(ran[0]).splitlines()
    assert len([line for line in lines if line.startswith(("256×128", "128×128"))]) == len(ran[0].rows)
    first = next(line for line in lines if line.startswith("256×128"))
    assert "grid 16" in first
    assert "512 → 128" in first
    assert f"{ran[0].rows[0].speedup.median:.2f}×" in first
    assert next(line for line in lines if line.startswith("128×128")).count("no effect at this size") == 1


def test_picture_is_written(ran):
    with Image.open(ran[1] / "bench.png") as picture:
        picture.verify()
        assert picture.format == "PNG"
        assert min(picture.size) > 500


def test_picture_highlights_the_kept_tokens(ran):
    auto, blended = ran[0].rows[:2]
    colours = report._token_colours(auto, "kept")
    assert (len(colours), len(colours[0])) == auto.counted[0].grid
    assert sum(line.count("kept") for line in colours) == auto.counted[0].kept
    # Blended: cells of 3×3 tokens, neighbours in different colours.
    lines = [[colour == "kept" for colour in line[:6]] for line in report._token_colours(blended, "kept")[:6]]
    assert lines == [[(line // 3 + column // 3) % 2 == 0 for column in range(6)] for line in range(6)]


def bar():
    return speed.tqdm(disable=True)


class leaving_a_trace:  # noqa: N801  # stands for the function `patched`
    """`patched`, but the model is not left as it was."""

    def __init__(self, unet, settings):
        self.unet = unet
        self.patched = patched(unet, settings)

    def __enter__(self):
        return self.patched.__enter__()

    def __exit__(self, *error):
        self.patched.__exit__(*error)
        with torch.no_grad():
            self.unet.out[-1].bias.add_(1)
