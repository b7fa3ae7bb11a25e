"""The comparison image: its size and layout, for any images."""

from __future__ import annotations

import builtins
import sys

import numpy as np
import pytest
from PIL import Image, ImageFont

from todo import Settings


@pytest.fixture
def sheet(host):
    return host.ours("webui.compare.pair")


@pytest.fixture
def fidelity(host):
    return host.ours("webui.compare.fidelity")


def noise(width, height, seed=0, mode="RGB"):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, len(mode)), dtype=np.uint8)
    return Image.fromarray(pixels, mode)


def draw(sheet, *pairs):
    """The sheet of pairs (dense, todo)."""
    column = sys.modules["sd_webui_todo.webui.compare.column"]
    dense, todo = zip(*pairs, strict=True)
    both = [("ToDo", Settings(factor=2), True, todo), ("dense", None, False, dense)]
    columns = [column.Column(*each, (), range(7, 99), (), 1.0) for each in both]
    return sheet.draw(column.with_fidelity(columns), ImageFont.load_default)


def holds(image, part):
    """Whether an image contains another, pixel by pixel."""
    whole, wanted = np.asarray(image), np.asarray(part)
    height, width = wanted.shape[:2]
    tops, lefts = np.nonzero(
        (whole[: whole.shape[0] - height + 1, : whole.shape[1] - width + 1] == wanted[0, 0]).all(2)
    )
    return any(
        np.array_equal(whole[top : top + height, left : left + width], wanted)
        for top, left in zip(tops, lefts, strict=True)
    )


@pytest.mark.parametrize("size", [(256, 256), (520, 776), (1000, 616), (257, 319), (1024, 64)], ids=str)
def test_both_images_appear_unchanged(sheet, size):
    dense, todo = noise(*size, 1), noise(*size, 2)
    drawn = draw(sheet, (dense, todo))
    assert holds(drawn, dense)
    assert holds(drawn, todo)
    assert drawn.width > 3 * size[0]
    assert drawn.height > size[1]


def test_a_tiny_image_is_enlarged(sheet):
    drawn = draw(sheet, (noise(64, 40, 1), noise(64, 40, 2)))
    assert drawn.width >= 3 * 256
    assert holds(drawn, noise(64, 40, 1).resize((256, 160), Image.Resampling.NEAREST))


def test_a_batch_has_a_row_for_each_pair(sheet):
    pairs = [(noise(300, 200, seed), noise(300, 200, seed + 10)) for seed in range(4)]
    drawn = draw(sheet, *pairs)
    one = draw(sheet, pairs[0])
    assert drawn.width == one.width
    assert drawn.height > 3 * (one.height - 100)
    assert all(holds(drawn, image) for pair in pairs for image in pair)


def test_rows_may_differ_in_size(sheet):
    small, large = noise(256, 256), noise(400, 300)
    drawn = draw(sheet, (small, small), (large, large))
    assert holds(drawn, small)
    assert holds(drawn, large)


def test_images_with_transparency_or_in_greyscale_are_accepted(sheet):
    assert draw(sheet, (noise(256, 256, mode="RGBA"), noise(256, 256).convert("L"))).mode == "RGB"


def test_two_sizes_in_a_pair_are_refused(sheet):
    with pytest.raises(ValueError, match="256×256 pixels, the one with ToDo 256×264"):
        draw(sheet, (noise(256, 256), noise(256, 264)))


def test_a_sheet_too_large_for_image_formats_is_scaled_down(sheet):
    plain = Image.new("RGB", (6000, 100))
    assert max(draw(sheet, (plain, plain)).size) == 16000


def test_the_difference_is_black_where_nothing_differs(sheet):
    dense = noise(256, 256)
    todo = dense.copy()
    todo.paste((0, 255, 0), (0, 0, 128, 256))
    drawn = np.asarray(draw(sheet, (dense, todo)))
    tops, lefts = np.nonzero((drawn == 0).all(2))
    difference = drawn[tops.min() : tops.min() + 256, lefts.max() - 255 : lefts.max() + 1]
    assert (difference[:, 128:] == 0).all()
    assert difference[:, :128].mean() > 50


def test_fidelity(fidelity):
    image = noise(64, 64)
    assert str(fidelity.measured(image, image)) == "identical"
    brighter = Image.fromarray(np.clip(np.asarray(image).astype(int) + 16, 0, 255).astype(np.uint8))
    near, far = (fidelity.measured(image, other) for other in (brighter, noise(64, 64, 9)))
    assert near.psnr == pytest.approx(20 * np.log10(255 / 16), abs=0.5)
    assert near.ssim > 0.9 > 0.1 > far.ssim
    assert fidelity.measured(noise(8, 4), noise(8, 4, 2)).ssim < 1


def test_without_scikit_image_the_sheet_says_so(sheet, fidelity, monkeypatch):
    find = builtins.__import__

    def without(name, *rest):
        if name.startswith("skimage"):
            raise ImportError(name)
        return find(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    pair = noise(256, 256), noise(256, 256, 1)
    assert fidelity.measured(*pair) is None
    assert "scikit-image" in fidelity.as_caption(fidelity.measured(*pair))
    assert draw(sheet, pair).height > 256
