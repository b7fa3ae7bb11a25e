"""Which factor applies at which level and when."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from todo import Settings
from todo.schedule import Moment, factor_at, phase_step, touches

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
    assert factor(Settings(grid=64, taper=True), 0.5, grid=(192, 128)) == pytest.approx(2)
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


def test_auto_keeps_at_most_the_grid_for_every_side_or_all():
    """All, where keeping the grid would leave out fewer than half of the tokens."""
    for kept in range(16, 129):
        settings = Settings(grid=kept)
        for side in range(1, 601):
            value = factor(settings, grid=(side, side))
            expected = side if 2 * min(side, kept) ** 2 > side**2 else kept
            assert math.ceil(side / value) == expected, (side, kept)


@given(st.integers(1, 600), st.integers(1, 600), st.integers(16, 128), st.sampled_from([1, 2, 4, 8]))
def test_auto_takes_the_smallest_factor_for_the_longer_side(h, w, kept, resolution):
    value = factor(Settings(grid=kept, max_downsample=8), resolution=resolution, grid=(h, w))
    halved = -(-kept // resolution)
    smallest = max(max(h, w) / halved, 1)
    if value == 1:
        assert 2 * math.ceil(h / smallest) * math.ceil(w / smallest) > h * w
    else:
        assert max(math.ceil(h / value), math.ceil(w / value)) == min(max(h, w), halved)
        assert value == pytest.approx(smallest)


@pytest.mark.parametrize(
    ("grid", "kept", "expected"),
    [((64, 64), 48, 1), ((68, 68), 48, 68 / 48), ((90, 90), 64, 1), ((91, 91), 64, 91 / 64), ((48, 84), 64, 1)],
)
def test_auto_leaves_a_level_whole_where_fewer_than_half_would_go(grid, kept, expected):
    """48 of 64 rows and columns are 56 % of the tokens, 48 of 68 are 50 %."""
    assert factor(Settings(grid=kept), grid=grid) == expected


def test_a_taper_goes_on_below_half():
    """The rule is about the whole ratio, not about what a taper leaves of it."""
    settings = Settings(grid=64, taper=True)
    assert [factor(settings, progress, grid=(128, 128)) for progress in (0, 0.5, 0.9)] == pytest.approx([2, 1.5, 1.1])


@pytest.mark.parametrize("pixels", [512, 768, 1024, 1536, 2048])
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
            (manual(factor=1), Moment()),
        ]
    }
    assert len(reasons) == 3


def test_phase_step():
    moment = Moment(progress=0.35, step=7)
    assert phase_step(Settings(), moment) == 7
    assert phase_step(Settings(phase="fixed"), moment) is None
