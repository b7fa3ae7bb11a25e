"""Similarity of images, compared with scikit-image and tested with blur and noise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage import data, metrics, util

from benchmarks import similarity


@pytest.fixture(scope="module")
def image():
    return util.img_as_float64(data.astronaut())[100:228, 150:278]


@pytest.fixture(scope="module")
def noisy(image):
    noise = np.random.default_rng(0).normal(scale=0.05, size=image.shape)
    return np.clip(image + noise, 0, 1)


def test_psnr_equals_scikit_images(image, noisy):
    assert similarity.psnr(noisy, image) == pytest.approx(metrics.peak_signal_noise_ratio(image, noisy))


def test_equal_images_have_a_finite_psnr(image):
    assert similarity.psnr(image, image) == pytest.approx(100)


def test_ssim_is_one_for_equal_images_and_falls_with_noise(image, noisy):
    assert similarity.ssim(image, image) == pytest.approx(1)
    assert 0 < similarity.ssim(noisy, image) < 0.95


def test_detail_falls_with_blur_and_rises_with_noise(image, noisy):
    blurred = gaussian_filter(image, (1, 1, 0))
    assert similarity.detail(image, image) == pytest.approx(1)
    assert similarity.detail(blurred, image) < 0.5
    assert similarity.detail(noisy, image) > 1.1


def test_detail_does_not_depend_on_brightness(image):
    """Contrast scales it by its square."""
    assert similarity.detail(image * 0.9 + 0.1, image) == pytest.approx(0.81)


def test_the_high_pass_is_the_mean_of_the_laplacians_absolute_value(image):
    """A single grey level of one pixel of 8×8 counts four times in itself and once in each neighbour."""
    pixel = np.full((8, 8, 3), 0.5)
    pixel[4, 4] += 1 / 255
    assert similarity.high_pass(pixel) == pytest.approx((4 + 4) / 64)
    assert similarity.high_pass(gaussian_filter(image, (1, 1, 0))) < 0.7 * similarity.high_pass(image)
    assert similarity.high_pass(image * 0.9 + 0.1) == pytest.approx(0.9 * similarity.high_pass(image))
