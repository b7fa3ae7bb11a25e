"""The sheet of dense and several settings: which images and parts it shows, for any images."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image, ImageFont

from tests.webui.test_sheet import holds, noise
from todo import Settings

SETTINGS = (None, *(Settings(factor=factor) for factor in (1.5, 2, 3)))


@pytest.fixture
def choice(host):
    return host.ours("webui.compare.choice")


@pytest.fixture
def columns(host):
    """A function from the images of each run to columns."""
    kind = host.ours("webui.compare.column").Column

    def build(*runs, seconds=2.0):
        return [
            kind(str(number), settings, number == 2, images, [], range(7, 99), range(99), seconds / (number + 1))
            for number, (settings, images) in enumerate(zip(SETTINGS, runs, strict=False))
        ]

    return build


def with_a_spot(image, left, upper, side=32):
    spotted = image.copy()
    spotted.paste((0, 255, 0), (left, upper, left + side, upper + side))
    return spotted


def draw(choice, columns):
    return choice.draw(sys.modules["sd_webui_todo.webui.compare.column"].with_fidelity(columns), ImageFont.load_default)


@pytest.mark.parametrize("size", [(1024, 1024), (1536, 640), (640, 1536), (521, 777)], ids=str)
def test_a_large_image_is_scaled_down_and_a_part_shown_at_full_resolution(choice, columns, size):
    dense = noise(*size)
    spot = (size[0] - 60, size[1] - 70)
    drawn = draw(choice, columns([dense], [with_a_spot(dense, *spot)], [dense]))
    width = min(512, *size)
    box = (size[0] - width, size[1] - width, size[0], size[1])
    for image in (dense, with_a_spot(dense, *spot)):
        part = np.asarray(image)[max(spot[1] - 40, box[1]) : size[1], max(spot[0] - 40, box[0]) : size[0]]
        assert holds(drawn, part[:60, :60])
    assert holds(drawn, dense.resize((512, round(size[1] * 512 / size[0])), Image.Resampling.LANCZOS))


@pytest.mark.parametrize("size", [(512, 512), (256, 256), (384, 200)], ids=str)
def test_of_a_small_image_a_part_is_enlarged(choice, columns, size):
    dense = noise(*size)
    drawn = draw(choice, columns([dense], [with_a_spot(dense, 10, 20)]))
    assert holds(drawn, dense)
    part = with_a_spot(dense, 10, 20).crop((10, 20, 42, 52))
    assert holds(drawn, part.resize((64, 64), Image.Resampling.NEAREST))


def test_the_part_is_where_all_settings_together_differ_most(choice, columns):
    dense = noise(800, 600)
    others = [with_a_spot(dense, 20, 30), with_a_spot(dense, 700, 500), with_a_spot(dense, 705, 500)]
    drawn = draw(choice, columns([dense], *([other] for other in others)))
    for image in (dense, *others):
        assert holds(drawn, np.asarray(image)[500:532, 700:737])


def test_equal_images_have_a_part_too(choice, columns):
    dense = noise(600, 600)
    drawn = draw(choice, columns([dense], [dense], [dense]))
    assert drawn.height > 2 * 512


def test_a_row_for_each_image_and_gaps_where_a_run_ended_early(choice, columns):
    dense, todo = [noise(256, 256, seed) for seed in range(3)], [noise(256, 256, 9 + seed) for seed in range(3)]
    drawn = draw(choice, columns(dense, todo, todo[:1]))
    assert all(holds(drawn, image) for image in (*dense, *todo))
    assert drawn.width == draw(choice, columns(dense[:1], todo[:1], todo[:1])).width
    assert drawn.height > 3 * 2 * 256


def test_headings(host, columns):
    heading, image = host.ours("webui.compare.drawing").heading, noise(256, 256)
    dense, weak, chosen = all_of_them = columns([image], [image], [image])
    assert heading(dense, all_of_them)[:2] == ("0", "2.00 s")
    assert heading(weak, all_of_them)[:2] == ("1", "1.00 s · ×2.00")
    assert heading(chosen, all_of_them)[0] == "2 (chosen)"
    (unfinished,) = columns([image], seconds=0)
    assert heading(unfinished, [unfinished])[1] == ""


def test_text_can_be_read_at_the_width_of_a_browser(choice, columns):
    images = [noise(2048, 1024)]
    drawn = np.asarray(draw(choice, columns(images, images, images, images)).convert("L"))
    title = np.nonzero((drawn[:200] < 128).any(1))[0]
    gap = np.nonzero(np.diff(title) > 1)[0][0]  # beneath the first line
    assert (title[gap] - title[0] + 1) * 1280 / drawn.shape[1] >= 8  # without its descenders' room


def test_a_long_sheet_is_scaled_down(choice, columns):
    images = [Image.new("RGB", (256, 2000))] * 8
    assert max(draw(choice, columns(images, images)).size) == 16000


def test_two_sizes_in_a_row_are_refused(choice, columns):
    with pytest.raises(ValueError, match="256×256 pixels, the one with ToDo 256×264"):
        draw(choice, columns([noise(256, 256)], [noise(256, 264)]))
