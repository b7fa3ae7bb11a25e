"""Similarity of images, compared with scikit-image and tested with blur and noise."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage import data, metrics, util

from benchmarks import similarity


def blurred(image, sigma):
    return gaussian_filter(image, (sigma, sigma, 0))


def with_noise(image, scale):
    return np.clip(image + np.random.default_rng(0).normal(scale=scale, size=image.shape), 0, 1)


@pytest.fixture(scope="module")
def image():
    return util.img_as_float64(data.astronaut())[100:228, 150:278]


@pytest.fixture(scope="module")
def noisy(image):
    return with_noise(image, 0.05)


def test_psnr_equals_scikit_images(image, noisy):
    assert similarity.psnr(noisy, image) == pytest.approx(metrics.peak_signal_noise_ratio(image, noisy))


def test_equal_images_have_a_finite_psnr(image):
    assert similarity.psnr(image, image) == pytest.approx(100)


def test_ssim_is_one_for_equal_images_and_falls_with_noise(image, noisy):
    assert similarity.ssim(image, image) == pytest.approx(1)
    assert 0 < similarity.ssim(noisy, image) < 0.95


def test_the_high_pass_is_the_mean_of_the_laplacians_absolute_value(image):
    """A single grey level of one pixel of 8×8 counts four times in itself and once in each neighbour."""
    pixel = np.full((8, 8, 3), 0.5)
    pixel[4, 4] += 1 / 255
    assert similarity.high_pass(pixel) == pytest.approx((4 + 4) / 64)
    assert similarity.high_pass(blurred(image, 1)) < 0.7 * similarity.high_pass(image)
    assert similarity.high_pass(image * 0.9 + 0.1) == pytest.approx(0.9 * similarity.high_pass(image))


@pytest.mark.parametrize(("worse", "strengths"), [(blurred, (0.5, 1, 2)), (with_noise, (0.02, 0.05, 0.1))])
def test_lpips_is_zero_for_equal_images_and_grows_with_blur_and_noise(image, worse, strengths):
    found = [similarity.lpips(worse(image, strength), image) for strength in strengths]
    assert similarity.lpips(image, image) == 0 < found[0] < found[1] < found[2] < 1


def test_lpips_depends_on_neither_order_nor_the_longer_side(image, noisy):
    part, other = image[:64], noisy[:64]
    distance = similarity.lpips(part, other)
    assert similarity.lpips(other, part) == pytest.approx(distance, rel=1e-3)
    assert similarity.lpips(np.rot90(part).copy(), np.rot90(other).copy()) == pytest.approx(distance, rel=0.1)


def test_lpips_finds_blur_worse_than_a_change_of_brightness_with_the_same_error(image):
    """Which the mean squared error cannot tell apart."""
    blur = blurred(image, 1.5)
    brighter = image + np.sqrt(np.mean((blur - image) ** 2))
    assert similarity.psnr(blur, image) == pytest.approx(similarity.psnr(brighter, image))
    assert similarity.lpips(blur, image) > 3 * similarity.lpips(brighter, image)


def test_lpips_tolerates_a_shift_by_a_pixel(image):
    shifted, strong = np.roll(image, 1, axis=1)[:, 1:], with_noise(image, 0.1)[:, 1:]
    assert similarity.psnr(shifted, image[:, 1:]) < similarity.psnr(strong, image[:, 1:]) + 6
    assert similarity.lpips(shifted, image[:, 1:]) < 0.3 * similarity.lpips(strong, image[:, 1:])


def test_lpips_leaves_no_module_behind(image):
    before = {name: sys.modules.get(name) for name in ("IPython", "torchsummary", "torchvision")}
    similarity._network.cache_clear()
    similarity.lpips(image, image)
    assert {name: sys.modules.get(name) for name in before} == before
