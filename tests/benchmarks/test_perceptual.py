"""Perceptual distances, tested with blur, noise and shifts, and against the order in which a viewer would put them."""

from __future__ import annotations

import sys
from math import isnan

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage import data, util

from benchmarks import perceptual, similarity
from benchmarks.perceptual import flip, lpips

distances = pytest.mark.parametrize("distance", [lpips, flip])


@pytest.fixture(scope="module")
def image():
    return util.img_as_float64(data.astronaut())[100:228, 150:278]


def blurred(image, sigma):
    return gaussian_filter(image, (sigma, sigma, 0))


def noisy(image, scale):
    return np.clip(image + np.random.default_rng(0).normal(scale=scale, size=image.shape), 0, 1)


@distances
def test_equal_images_have_no_distance(distance, image):
    assert distance(image, image) == 0


@distances
@pytest.mark.parametrize("worse", [blurred, noisy])
def test_it_grows_with_blur_and_noise(distance, worse, image):
    strengths = (0.5, 1, 2) if worse is blurred else (0.02, 0.05, 0.1)
    found = [distance(worse(image, strength), image) for strength in strengths]
    assert 0 < found[0] < found[1] < found[2] < 1


@distances
def test_it_is_symmetric(distance, image):
    other = noisy(image, 0.05)
    assert distance(image, other) == pytest.approx(distance(other, image), rel=1e-3)


@distances
def test_it_does_not_depend_on_the_side_that_is_longer(distance, image):
    """A turned pair of images is about as far apart."""
    part, other = image[:64], noisy(image, 0.05)[:64]
    turned = distance(np.rot90(part).copy(), np.rot90(other).copy())
    assert turned == pytest.approx(distance(part, other), rel=0.1)


def test_it_finds_blur_worse_than_a_change_of_brightness_with_the_same_error(image):
    """Which the mean squared error cannot tell apart."""
    blur = blurred(image, 1.5)
    brighter = image + np.sqrt(np.mean((blur - image) ** 2))
    assert similarity.psnr(blur, image) == pytest.approx(similarity.psnr(brighter, image))
    assert lpips(blur, image) > 3 * lpips(brighter, image)


def test_it_tolerates_a_shift_by_a_pixel(image):
    shifted = np.roll(image, 1, axis=1)[:, 1:]
    strong = noisy(image, 0.1)[:, 1:]
    assert similarity.psnr(shifted, image[:, 1:]) < similarity.psnr(strong, image[:, 1:]) + 6
    assert lpips(shifted, image[:, 1:]) < 0.3 * lpips(strong, image[:, 1:])


@distances
def test_without_the_package_it_is_unknown(distance, image, monkeypatch):
    monkeypatch.setattr(perceptual, "find_spec", lambda name: None)
    assert isnan(distance(image, image))


def test_no_stand_in_stays_behind(image):
    before = {name: sys.modules.get(name) for name in ("IPython", "torchsummary", "torchvision")}
    perceptual._network.cache_clear()
    lpips(image, image)
    assert {name: sys.modules.get(name) for name in before} == before
