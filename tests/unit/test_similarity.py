"""Likeness of pictures, against scikit-image's own measures and by what blurring does."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage import data, metrics, util

from todo.bench import similarity


@pytest.fixture(scope="module")
def picture():
    return util.img_as_float64(data.astronaut())[100:228, 150:278]


@pytest.fixture(scope="module")
def noisy(picture):
    noise = np.random.default_rng(0).normal(scale=0.05, size=picture.shape)
    return np.clip(picture + noise, 0, 1)


def test_psnr_is_scikit_images(picture, noisy):
    assert similarity.psnr(noisy, picture) == pytest.approx(metrics.peak_signal_noise_ratio(picture, noisy))


def test_equal_pictures_have_a_finite_psnr(picture):
    assert similarity.psnr(picture, picture) == pytest.approx(100)


def test_ssim_is_one_for_equal_pictures_and_falls_with_noise(picture, noisy):
    assert similarity.ssim(picture, picture) == pytest.approx(1)
    assert 0 < similarity.ssim(noisy, picture) < 0.95


def test_detail_falls_with_blur_and_rises_with_noise(picture, noisy):
    blurred = gaussian_filter(picture, (1, 1, 0))
    assert similarity.detail(picture, picture) == pytest.approx(1)
    assert similarity.detail(blurred, picture) < 0.5
    assert similarity.detail(noisy, picture) > 1.1


def test_detail_does_not_see_brightness(picture):
    assert similarity.detail(picture * 0.9 + 0.1, picture) == pytest.approx(0.81)
