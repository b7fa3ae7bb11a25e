"""The step window and the passes of hires. fix, with the numbers of keys at each step."""

from __future__ import annotations

import pytest
import torch

from .generations import FACTOR_2, FIRST, HIRES, HIRES_KEPT, KEPT, SECOND, SIZE, keys


@pytest.mark.parametrize("batched", [True, False], ids=["one UNet call", "two UNet calls"])
def test_the_window_does_not_depend_on_how_the_batch_is_split(host, monkeypatch, batched):
    monkeypatch.setattr(host.shared.opts, "batch_cond_uncond", batched)
    seen = keys(host, {**FACTOR_2, "end": 0.5})
    calls = 1 if batched else 2
    assert seen == [KEPT] * 2 * calls + [SIZE] * 2 * calls


def test_a_second_order_sampler_announces_twice_its_steps(host):
    seen = keys(host, {**FACTOR_2, "end": 0.5}, sampler_name="Heun", steps=4)
    assert seen == [KEPT] * 4 + [SIZE] * 3


@pytest.mark.parametrize(("sampler", "calls"), [("DPM adaptive", 12), ("DDIM", 5)])
def test_steps_beyond_the_announced_total_count_as_the_last(host, sampler, calls):
    assert keys(host, FACTOR_2, sampler_name=sampler, steps=4) == [KEPT] * calls
    assert keys(host, {**FACTOR_2, "end": 0.5}, sampler_name=sampler, steps=4) == [KEPT] * 2 + [SIZE] * (calls - 2)


def test_the_window_begins_late(host):
    assert keys(host, {**FACTOR_2, "start": 0.5}) == [SIZE] * 2 + [KEPT] * 2


def test_a_taper_keeps_more_from_step_to_step(host):
    seen = keys(host, {"factor": 4, "taper": True})
    assert seen == sorted(seen)
    assert seen[0] == SIZE // 16
    assert seen[-1] > seen[0]


def test_progress_starts_again_in_each_batch(host):
    seen = keys(host, {**FACTOR_2, "end": 0.5}, n_iter=2)
    assert seen == ([KEPT] * 2 + [SIZE] * 2) * 2


def test_each_image_of_a_batch_count_depends_on_its_seed_only(host):
    both = host.generate(FACTOR_2, n_iter=2).latents
    single = host.generate(FACTOR_2, seed=12).latents
    assert torch.equal(both[1:], single)


# --- passes


@pytest.mark.parametrize(
    ("wanted", "first", "second"),
    [
        ({**FACTOR_2}, KEPT, HIRES_KEPT),
        ({**FACTOR_2, "passes": "first"}, KEPT, HIRES),
        ({**FACTOR_2, "passes": "hires"}, SIZE, HIRES_KEPT),
        ({**FACTOR_2, "hires_factor": 4}, KEPT, HIRES // 16),
        ({**FACTOR_2, "hires_factor": 1}, KEPT, HIRES),
        ({"mode": "auto", "grid": 16}, SIZE, HIRES_KEPT),
    ],
    ids=["both", "first", "hires", "hires factor", "hires factor off", "auto"],
)
def test_the_passes_of_hires_fix_are_distinguished(host, wanted, first, second):
    assert keys(host, wanted, enable_hr=True) == [first] * FIRST + [second] * SECOND


def test_progress_starts_again_in_the_hires_pass(host):
    seen = keys(host, {**FACTOR_2, "end": 0.5}, enable_hr=True)
    assert seen == [KEPT] * 2 + [SIZE] * 2 + [HIRES_KEPT] * 2 + [HIRES]


def test_the_hires_pass_is_reported_separately(host):
    host.generate(FACTOR_2, enable_hr=True)
    (line,) = host.log.at("INFO")
    assert "16×16" in line
    assert "32×32" in line


def test_img2img_counts_as_the_first_pass(host):
    assert keys(host, {**FACTOR_2, "passes": "first"}, tab="img2img") == [KEPT] * SECOND
    assert keys(host, {**FACTOR_2, "passes": "hires"}, tab="img2img") == [SIZE] * SECOND
