"""The tiny model: its vocabulary, and images that resemble the photographs of their prompts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage import color, data, util
from torch.nn import functional

from benchmarks.sampling import SAMPLERS, Request, Sampling
from benchmarks.tiny import model
from benchmarks.tiny.sampler import TinyImageModel, noise_schedule
from todo import Patch, Settings, SettingsError, patched

PHOTOGRAPHS = ("astronaut", "camera", "chelsea", "coffee", "coins", "rocket", "brick", "hubble_deep_field")
"""What the model was trained on, by their names in skimage.data, in the order of `model.PROMPTS`."""


@pytest.fixture
def image_model(tiny_model):
    return TinyImageModel(tiny_model)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def test_the_context_depends_on_words_and_size(tiny_model):
    context = tiny_model.context(["a cat", "a cat, mirrored"], (128, 128))
    assert context.shape == (2, 7, 64)
    assert not torch.equal(context[0], context[1])
    assert not torch.equal(context[0], tiny_model.context(["A CAT"], (256, 128))[0])
    assert torch.equal(context[:1], tiny_model.context(["A Cat"], (128, 128)))


@pytest.mark.parametrize(("prompt", "message"), [("a dog", "'dog' is not a word"), ("a " * 7, "7 words are too many")])
def test_an_unknown_prompt_is_refused_with_the_known_ones(tiny_model, prompt, message):
    with pytest.raises(SettingsError, match=rf"^prompt: {message}.*a cup of coffee.*mirrored") as refused:
        tiny_model.context([prompt], (128, 128))
    assert refused.value.field == "prompt"


@pytest.mark.parametrize("text", ["100", "128x", "0", "1x2x3", "x", "-16"])
def test_a_wrong_size_is_refused(text):
    with pytest.raises(SettingsError, match=f"^size: {text!r} is not allowed"):
        model.read_size(text)


def test_sizes_are_read_as_height_and_width():
    assert (model.read_size("128"), model.read_size("256×64")) == ((128, 128), (64, 256))


@pytest.mark.parametrize(("side", "seeds"), [(128, (0, 1)), (256, (0,))])
def test_images_resemble_the_photograph_of_their_prompt(tiny_model, image_model, side, seeds):
    """At the trained size and at twice that size, an image is closer to its prompt's photograph, mirrored or not, than
    to any other, when both are scaled down to thumbnails."""
    images = [util.img_as_float32(getattr(data, name)()) for name in PHOTOGRAPHS]
    colours = [image if image.ndim == 3 else color.gray2rgb(image) for image in images]
    pixels = [torch.from_numpy(image).permute(2, 0, 1) * 2 - 1 for image in colours]
    thumbnails = torch.cat([_thumbnail(torch.stack([image, image.flip(2)])) for image in pixels])
    for index, prompt in enumerate(model.PROMPTS):
        latent = image_model.sample(Request(prompt, seeds, (side, side), Sampling(10)))
        for image in _thumbnail(tiny_model.decode(latent)):
            distances = (thumbnails - image).square().mean(1).unflatten(0, (-1, 2)).amin(1)
            assert int(distances.argmin()) == index, (prompt, distances)


def _thumbnail(images):
    """The middle square of images (batch, 3, h, w) as 8×8 pixels, flattened."""
    side = min(images.shape[2:])
    top, left = ((length - side) // 2 for length in images.shape[2:])
    square = images[:, :, top : top + side, left : left + side]
    return functional.interpolate(square, (8, 8), mode="area").flatten(1)


def test_the_euler_sampler_is_eulers_method(tiny_model, image_model):
    """Each step moves along (x − x₀) / σ. Source: Karras et al., 2022, algorithm 1 without churn."""
    request = Request("a rocket", (5,), (64, 64), Sampling(4))
    kept = noise_schedule().alphas_cumprod.double()
    times = torch.linspace(999, 0, 4, dtype=torch.float64)
    sigmas = torch.from_numpy(np.interp(times.numpy(), np.arange(1000), ((1 - kept) / kept).sqrt().numpy()))
    sigmas = torch.cat([sigmas, torch.zeros(1, dtype=torch.float64)]).float()
    noise = torch.randn(model.latent_shape((64, 64)), generator=torch.Generator().manual_seed(5))[None]
    x = noise * sigmas[0].square().add(1).sqrt()
    with torch.no_grad():
        for time, sigma, following in zip(times.float(), sigmas, sigmas[1:], strict=False):
            clean = tiny_model(x / (sigma**2 + 1).sqrt(), time[None], tiny_model.context(["a rocket"], (64, 64)))
            x = x + (x - clean) / sigma * (following - sigma)
    torch.testing.assert_close(image_model.sample(request), x, atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_is_reproducible_and_independent_of_the_batch(image_model, sampler):
    request = Request("a cat", (3, 4), (64, 64), Sampling(3, sampler))
    first = image_model.sample(request)
    assert first.isfinite().all()
    assert torch.equal(first, image_model.sample(request))
    alone = image_model.sample(Request("a cat", (4,), (64, 64), Sampling(3, sampler)))
    torch.testing.assert_close(first[1:], alone, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("sampler", "steps"), [("euler", [0, 1, 2]), ("heun", [0, 0, 1, 1, 2])])
def test_the_patch_is_told_the_sampling_step(image_model, monkeypatch, sampler, steps):
    recorded = []
    at = Patch.at
    monkeypatch.setattr(Patch, "at", lambda patch, step, *args: (recorded.append(step), at(patch, step, *args)))
    with patched(image_model.unet, Settings(mode="manual", factor=2)) as patch:
        image_model.sample(Request("a cat", (0,), (64, 64), Sampling(3, sampler)), patch)
    assert recorded == steps


def test_guidance_extrapolates_from_the_unconditional_prediction(image_model, generator):
    latent = torch.randn(2, *model.latent_shape((64, 64)), generator=generator)
    time = torch.tensor(500)
    conditional, unconditional, guided = (
        image_model.predict(Request(prompt, (0, 1), (64, 64), Sampling(guidance=scale)), latent, time)
        for prompt, scale in (("a cat", 1.0), ("", 1.0), ("a cat", 3.0))
    )
    expected = unconditional + 3 * (conditional - unconditional)
    torch.testing.assert_close(guided, expected, atol=1e-4, rtol=1e-4)


def test_images_are_arrays_between_0_and_1(image_model):
    (image,) = image_model.decode(image_model.sample(Request("a cat", (0,), (64, 128), Sampling(2))))
    assert image.shape == (64, 128, 3)
    assert 0 <= image.min() < image.max() <= 1
