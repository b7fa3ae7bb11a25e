"""Which factor applies at which level and when."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from todo import Settings, plan
from todo.downsample import kept_size
from todo.schedule import (
    AT_THIS_SIZE,
    IN_SO_FEW_STEPS,
    OUTSIDE_WINDOW,
    Moment,
    are_few,
    factor_at,
    from_size,
    phase_step,
    touches,
)

GRID = (64, 96)


def factor(settings: Settings, progress=0.0, resolution=1, grid=GRID, hires=False) -> float:
    value, reason = factor_at(settings, resolution, grid, Moment(progress=progress, hires=hires))
    assert (value == 1.0) == bool(reason), "there is a reason exactly if the factor is 1"
    return value


def manual(**rest) -> Settings:
    return Settings(mode="manual", **{"factor": 3, **rest})


@pytest.mark.parametrize(
    ("start", "end", "on", "off"),
    [
        (0, 1, [0, 0.5, 0.999, 1], []),
        (0.25, 0.75, [0.25, 0.5, 0.7499], [0, 0.2499, 0.75, 0.9, 1]),
        (0.5, 1, [0.5, 0.99, 1], [0, 0.4999]),
        (0, 0.5, [0, 0.4999], [0.5, 1]),
        (0.5, 0.5, [], [0, 0.5, 1]),
        (0, 0, [], [0, 0.5, 1]),
        (1, 1, [], [0, 0.5, 1]),
    ],
)
def test_window(start, end, on, off):
    settings = manual(start=start, end=end)
    assert [factor(settings, progress) for progress in on] == [3] * len(on)
    assert [factor(settings, progress) for progress in off] == [1] * len(off)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_window_at_any_progress(one, other, progress):
    start, end = sorted((one, other))
    inside = start < end and start <= progress and (progress < end or end == 1)
    assert factor(manual(start=start, end=end), progress) == (3 if inside else 1)


@pytest.mark.parametrize(
    ("start", "end", "progress", "expected"),
    [
        (0, 1, 0, 5), (0, 1, 0.25, 4), (0, 1, 0.5, 3), (0, 1, 0.75, 2), (0, 1, 1, 1),
        (0.2, 0.6, 0.2, 5), (0.2, 0.6, 0.3, 4), (0.2, 0.6, 0.4, 3), (0.2, 0.6, 0.5, 2), (0.2, 0.6, 0.6, 1),
        (0.2, 0.6, 0.1, 1), (0.2, 0.6, 0.7, 1),
    ],
)  # fmt: skip
def test_taper_falls_evenly_to_one(start, end, progress, expected):
    assert factor(manual(factor=5, start=start, end=end, taper=True), progress) == pytest.approx(expected)


def test_taper_holds_for_auto_and_deeper_levels():
    assert factor(Settings(grid=64, taper=True), 0.5, grid=(288, 128)) == pytest.approx(2)
    settings = manual(deep_factor=3, max_downsample=2, taper=True)
    assert factor(settings, 0.5, resolution=2) == pytest.approx(2)


@pytest.mark.parametrize(("passes", "first", "hires"), [("both", 3, 3), ("first", 3, 1), ("hires", 1, 3)])
def test_passes(passes, first, hires):
    assert factor(manual(passes=passes)) == first
    assert factor(manual(passes=passes), hires=True) == hires


@pytest.mark.parametrize(("hires_factor", "expected"), [(0, 3), (1, 1), (2, 2), (8, 8)])
def test_hires_factor(hires_factor, expected):
    settings = manual(hires_factor=hires_factor, deep_factor=2, max_downsample=2)
    assert factor(settings, hires=True) == expected
    assert factor(settings, hires=False) == 3
    assert factor(settings, resolution=2, hires=True) == 2


def test_manual_levels():
    settings = manual(factor=4, deep_factor=2, max_downsample=4)
    assert [factor(settings, resolution=resolution) for resolution in (1, 2, 4)] == [4, 2, 2]
    assert [touches(settings, resolution) for resolution in (1, 2, 4, 8)] == [True, True, True, False]
    assert [touches(manual(max_downsample=8), resolution) for resolution in (1, 2, 4)] == [True, False, False]


@pytest.mark.parametrize("reach", [1, 2, 4, 8])
def test_reach(reach):
    settings = Settings(max_downsample=reach)
    assert [touches(settings, resolution) for resolution in (1, 2, 4, 8)] == [r <= reach for r in (1, 2, 4, 8)]


def auto(side: int, kept: int, **moment) -> float:
    return factor_at(Settings(grid=kept), 1, (side, side), Moment(**moment))[0]


@pytest.mark.parametrize("kept", range(16, 129, 8))
@pytest.mark.parametrize(("few_steps", "more"), [(False, 1), (True, 4 / 3)])
def test_auto_keeps_the_grid_of_a_square_and_at_most_half_of_a_side(kept, few_steps, more):
    """In few steps a third more per side. Smaller images are left whole."""
    for side in range(1, 601):
        value = auto(side, kept, few_steps=few_steps)
        wanted = kept * more
        expected = side if side < 1.25 * wanted else min(math.ceil(side / 2), math.ceil(round(wanted, 9)))
        assert kept_size(side, value) == expected, (side, kept)


@given(st.integers(1, 600), st.integers(1, 600), st.integers(16, 128))
def test_auto_keeps_as_many_in_every_format(h, w, kept):
    """The ratio of a square with as many tokens."""
    value = factor(Settings(grid=kept), grid=(h, w))
    side = math.sqrt(h * w)
    assert value == (pytest.approx(max(side / kept, 2)) if side >= 1.25 * kept else 1)
    assert factor(Settings(grid=kept), grid=(w, h)) == value


@pytest.mark.parametrize(("h", "w"), [(136, 240), (64, 512), (96, 192), (208, 320)])
def test_formats_keep_about_as_many_tokens_as_a_square(h, w):
    """1920×1088, 4096×512, 2:1 and 20:13 in SD1.5's latents."""
    value = factor(Settings(), grid=(h, w))
    assert kept_size(h, value) * kept_size(w, value) == pytest.approx(min(48**2, h * w / 4), rel=0.06)


@pytest.mark.parametrize(
    ("pixels", "family", "few_steps", "acts"),
    [
        ((512, 512), "sd1", False, True), ((448, 448), "sd1", False, False), ((512, 512), "sd1", True, False),
        ((768, 768), "sd1", True, True), ((640, 448), "sd1", False, True),
        *(((w, h), "sdxl", False, True) for w, h in ((1024, 1024), (1152, 896), (1344, 768), (1536, 640), (640, 1536))),
        ((832, 832), "sdxl", False, False), ((1024, 1024), "sdxl", True, False), ((1536, 1536), "sdxl", True, True),
    ],
)  # fmt: skip
def test_where_auto_acts_by_default(pixels, family, few_steps, acts):
    """At the sizes that the models were trained on, in every format; in few steps only beyond."""
    predicted = plan(*pixels, Settings(), family, steps=4 if few_steps else 20)
    assert {level.factor for level in predicted.levels} == {2 if acts else 1}


@pytest.mark.parametrize(("steps", "few"), [(0, False), (1, True), (8, True), (9, False), (30, False)])
def test_few_steps(steps, few):
    assert are_few(steps) is few


def test_a_taper_goes_on_below_half():
    """The rule is about the whole ratio, not about what a taper leaves of it."""
    settings = Settings(grid=64, taper=True)
    assert [factor(settings, progress, grid=(128, 128)) for progress in (0, 0.5, 0.9)] == pytest.approx([2, 1.5, 1.1])


@pytest.mark.parametrize("pixels", [1024, 1536, 2048])
def test_auto_gives_every_level_its_part_of_the_grid(pixels):
    """At 64, the grids that SD1.5 was trained on at 512²: 64 × 64 tokens at its finest level, then 32 × 32, 16 × 16."""
    for resolution, trained in ((1, 64), (2, 32), (4, 16)):
        side = pixels // 8 // resolution
        value = factor(Settings(grid=64, max_downsample=4), resolution=resolution, grid=(side, side))
        assert math.ceil(side / value) == trained


@pytest.mark.parametrize("kept", [32, 40, 48, 56, 64, 96])
@pytest.mark.parametrize("pixels", range(256, 2049, 64))
def test_all_levels_are_left_whole_or_none(kept, pixels):
    sides = [pixels // 8 // resolution for resolution in (1, 2, 4, 8)]
    settings = Settings(grid=kept, max_downsample=8)
    whole = {
        factor(settings, resolution=resolution, grid=(side, side)) == 1
        for resolution, side in zip((1, 2, 4, 8), sides, strict=True)
    }
    assert len(whole) == 1


@pytest.mark.parametrize(("pixels", "expected"), [(512, 1), (1024, 2), (1536, 3), (2048, 4)])
def test_the_paper(pixels, expected):
    """The authors' settings for SD1.5: the finest level only, always keeping 64 × 64."""
    latent = pixels // 8
    assert factor(Settings(grid=64), grid=(latent, latent)) == expected
    assert math.ceil(latent / expected) == 64


@pytest.mark.parametrize(("h", "w", "value"), [(1, 1, 8), (64, 64, 1), (3, 3, 1.25)])
def test_a_factor_that_keeps_every_token_has_no_effect(h, w, value):
    kept_all = all(math.ceil(side / value) == side for side in (h, w))
    assert kept_all == (factor(manual(factor=value), grid=(h, w)) == 1)


def test_each_reason_is_different():
    reasons = {
        factor_at(settings, 1, GRID, moment)[1]
        for settings, moment in [
            (manual(passes="hires"), Moment()),
            (manual(start=0.5), Moment(progress=0.1)),
            (manual(start=0.5, end=0.5), Moment(progress=0.5)),
            (manual(factor=1), Moment()),
            (Settings(grid=128), Moment()),
            (Settings(grid=128), Moment(few_steps=True)),
        ]
    }
    assert len(reasons) == 6


@pytest.mark.parametrize(
    ("reason", "depth", "expected"),
    [
        (AT_THIS_SIZE, 0, "480×480"), (AT_THIS_SIZE, 1, "960×960"), (IN_SO_FEW_STEPS, 0, "640×640"),
        (IN_SO_FEW_STEPS, 1, "1280×1280"), (OUTSIDE_WINDOW, 0, ""),
    ],
)  # fmt: skip
def test_the_size_from_which_auto_acts(reason, depth, expected):
    assert from_size(reason, Settings(), depth) == expected


def test_phase_step():
    moment = Moment(progress=0.35, step=7)
    assert phase_step(Settings(), moment) == 7
    assert phase_step(Settings(phase="fixed"), moment) is None
