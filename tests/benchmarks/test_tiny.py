"""The tiny model: its latents lose nothing, it knows its words, training continues where it was stopped, and what the
published weights make resembles the right photograph."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from torch.nn import functional

from benchmarks.tiny import latents, model, photographs, sheet, train
from benchmarks.tiny.sampler import SAMPLERS, Request, Sampling, decode, noise_schedule, predict, sample
from todo import Patch, Settings, SettingsError, patched


@pytest.fixture(scope="module")
def images():
    return [photographs.load(each) for each in photographs.PHOTOGRAPHS]


@pytest.fixture(scope="module")
def trained():
    return model.load()


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def test_latents_lose_nothing(images, generator):
    transform = latents.fit(images)
    image = torch.rand(2, 3, 24, 32, generator=generator) * 2 - 1
    encoded = transform.encode(image)
    assert encoded.shape == (2, latents.CHANNELS, 6, 8)
    torch.testing.assert_close(transform.decode(encoded), image, atol=1e-4, rtol=0)


def test_latents_are_principal_components_brought_half_way_to_equal_variance(images):
    image = images[3][:, :400, :600]
    channels = latents.fit([image]).encode(image[None])[0].flatten(1).double()
    patches = functional.pixel_unshuffle(image[None], latents.PATCH)[0].flatten(1).double().numpy()
    variances = np.linalg.svd(patches - patches.mean(1, keepdims=True), compute_uv=False) ** 2 / (patches.shape[1] - 1)
    covariance = torch.cov(channels)
    torch.testing.assert_close(covariance.diagonal(), torch.from_numpy(np.sqrt(variances / variances[0])), rtol=1e-3,
                               atol=1e-5)  # fmt: skip
    assert (covariance - covariance.diagonal().diag()).abs().max() < 1e-3


def test_every_photograph_ships_with_scikit_image_and_has_its_licence(images):
    for photograph, image in zip(photographs.PHOTOGRAPHS, images, strict=True):
        assert photograph.licence
        assert image.ndim == 3
        assert image.shape[0] == 3
        assert -1 <= image.min() < image.max() <= 1


def test_a_view_shows_nearly_all_of_a_photograph(images, generator):
    image = images[0]
    whole = photographs.resized(image, (64, 64))
    for _ in range(6):
        seen, mirrored = photographs.view(image, (0.5, 0.5), 64, generator)
        assert seen.shape == (3, 64, 64)
        upright = seen.flip(2) if mirrored else seen
        pair = torch.stack([upright.mean(0).flatten(), whole.mean(0).flatten()])
        assert torch.corrcoef(pair)[0, 1] > 0.3


def test_context_knows_words_and_size(trained):
    shapes = trained.context(["a cat", "a cat, mirrored"], (128, 128))
    assert shapes.shape == (2, 7, 64)
    assert not torch.equal(shapes[0], shapes[1])
    assert not torch.equal(shapes[0], trained.context(["A CAT"], (256, 128))[0])
    assert torch.equal(shapes[:1], trained.context(["A Cat"], (128, 128)))


@pytest.mark.parametrize(("prompt", "said"), [("a dog", "'dog' is not a word"), ("a " * 7, "7 words are too many")])
def test_an_unknown_prompt_is_refused_with_what_is_known(trained, prompt, said):
    with pytest.raises(SettingsError, match=rf"^prompt: {said}.*a cup of coffee.*mirrored") as refused:
        trained.context([prompt], (128, 128))
    assert refused.value.field == "prompt"


@pytest.mark.parametrize("text", ["100", "128x", "0", "1x2x3", "x", "-16"])
def test_a_size_that_does_not_fit_is_refused(text):
    with pytest.raises(SettingsError, match=f"^size: {text!r} is not allowed"):
        model.read_size(text)


def test_a_size_is_height_and_width():
    assert (model.read_size("128"), model.read_size("256×64")) == ((128, 128), (64, 256))


def test_weights_are_small_and_come_back(trained, tmp_path):
    assert model.WEIGHTS.stat().st_size < 20_000_000
    model.save(trained, tmp_path / "copy.safetensors")
    again = model.load(tmp_path / "copy.safetensors")
    for name, value in trained.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


class StoppedError(Exception):
    pass


def test_training_in_parts_is_training_in_one(monkeypatch, tmp_path):
    """To the last bit: every step draws from its own generator."""
    monkeypatch.setattr(train, "_BATCHES", ((32, 2, 0.7), (48, 1, 0.3)))
    monkeypatch.setattr(train, "_SAVED", 2)
    monkeypatch.setattr(train, "_LOGGED", 1)
    device = torch.device("cpu")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train.train(5, 1, device, whole / "w.safetensors", whole / "state.pt")

    step = train._step

    def stopping(run, *args):
        if run.step == 3:
            raise StoppedError
        return step(run, *args)

    monkeypatch.setattr(train, "_step", stopping)
    with pytest.raises(StoppedError):
        train.train(5, 1, device, parts / "w.safetensors", parts / "state.pt")
    monkeypatch.setattr(train, "_step", step)
    train.train(5, 1, device, parts / "w.safetensors", parts / "state.pt")

    assert (parts / "w.safetensors").read_bytes() == (whole / "w.safetensors").read_bytes()
    losses = [
        [row[:2] for row in csv.reader((folder / "loss.csv").read_text().splitlines())] for folder in (whole, parts)
    ]
    assert losses[0] == losses[1]
    assert [row[0] for row in losses[0]] == ["step", "1", "2", "3", "4", "5"]


@pytest.mark.parametrize(("side", "seeds"), [(128, (0, 1)), (256, (0,))])
def test_what_it_makes_is_what_was_asked_for(trained, images, side, seeds):
    """At the size it was trained at and at twice that: of all photographs the prompt's own, this way round or
    mirrored, is most like the image, as far as one can see from afar."""
    thumbnails = torch.cat([_thumbnail(torch.stack([image, image.flip(2)])) for image in images])
    for index, photograph in enumerate(photographs.PHOTOGRAPHS):
        latent = sample(trained, Request(photograph.prompt, seeds, (side, side), Sampling(10)))
        for made in _thumbnail(trained.transform.decode(latent)):
            distances = (thumbnails - made).square().mean(1).unflatten(0, (-1, 2)).amin(1)
            assert int(distances.argmin()) == index, (photograph.prompt, distances)


def _thumbnail(images):
    """The middle square as 8×8 pixels, in colour."""
    side = min(images.shape[2:])
    top, left = ((length - side) // 2 for length in images.shape[2:])
    square = images[:, :, top : top + side, left : left + side]
    return functional.interpolate(square, (8, 8), mode="area").flatten(1)


def test_euler_is_eulers_method(trained):
    """Written out: each step goes along (x − x₀) / σ, as Karras et al. have it (2022, algorithm 1 without churn)."""
    request = Request("a rocket", (5,), (64, 64), Sampling(4))
    kept = noise_schedule().alphas_cumprod.double()
    times = torch.linspace(999, 0, 4, dtype=torch.float64)
    sigmas = torch.from_numpy(np.interp(times.numpy(), np.arange(1000), ((1 - kept) / kept).sqrt().numpy()))
    sigmas = torch.cat([sigmas, torch.zeros(1, dtype=torch.float64)]).float()
    noise = torch.randn(model.latent_shape((64, 64)), generator=torch.Generator().manual_seed(5))[None]
    x = noise * sigmas[0].square().add(1).sqrt()
    with torch.no_grad():
        for time, sigma, following in zip(times.float(), sigmas, sigmas[1:], strict=False):
            clean = trained(x / (sigma**2 + 1).sqrt(), time[None], trained.context(["a rocket"], (64, 64)))
            x = x + (x - clean) / sigma * (following - sigma)
    torch.testing.assert_close(sample(trained, request), x, atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_makes_the_same_for_the_same_seed_alone_or_together(trained, sampler):
    request = Request("a cat", (3, 4), (64, 64), Sampling(3, sampler))
    first = sample(trained, request)
    assert first.isfinite().all()
    assert torch.equal(first, sample(trained, request))
    alone = sample(trained, Request("a cat", (4,), (64, 64), Sampling(3, sampler)))
    torch.testing.assert_close(first[1:], alone, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("sampler", "steps"), [("euler", [0, 1, 2]), ("heun", [0, 0, 1, 1, 2])])
def test_the_patch_learns_the_samplers_step(trained, monkeypatch, sampler, steps):
    steps_seen = []
    at = Patch.at
    monkeypatch.setattr(Patch, "at", lambda patch, step, *rest: (steps_seen.append(step), at(patch, step, *rest)))
    with patched(trained.unet, Settings(mode="manual", factor=2)) as patch:
        sample(trained, Request("a cat", (0,), (64, 64), Sampling(3, sampler)), patch)
    assert steps_seen == steps


def test_guidance_goes_beyond_the_untold_prediction(trained, generator):
    latent = torch.randn(2, *model.latent_shape((64, 64)), generator=generator)
    time = torch.tensor(500)
    steps_seen, untold, guided = (
        predict(trained, Request(prompt, (0, 1), (64, 64), Sampling(guidance=scale)), 0, latent, time, None)
        for prompt, scale in (("a cat", 1.0), ("", 1.0), ("a cat", 3.0))
    )
    torch.testing.assert_close(guided, untold + 3 * (steps_seen - untold), atol=1e-4, rtol=1e-4)


def test_images_are_arrays_from_black_to_white(trained):
    made = decode(trained, sample(trained, Request("a cat", (0,), (64, 128), Sampling(2))))
    assert [each.shape for each in made] == [(64, 128, 3)]
    assert 0 <= made[0].min() < made[0].max() <= 1


def test_the_sheet_shows_each_prompt_turned_round_and_larger(trained, monkeypatch):
    monkeypatch.setattr(sheet, "PROMPTS", ("a cat", "a rocket"))
    monkeypatch.setattr(sheet, "TRAINED_SIDE", 32)
    made = sheet.make(trained)
    assert made.shape == (64, 256, 3)
    assert made.min() >= 0
    assert made.max() <= 1
    rocket, cat = (decode(trained, sample(trained, Request(each, (0,), (64, 64))))[0] for each in ("a rocket", "a cat"))
    np.testing.assert_allclose(made[:64, 64:128], cat.clip(0, 1), atol=1e-5)
    turned = decode(trained, sample(trained, Request("a cat mirrored", (0,), (32, 32))))[0]
    np.testing.assert_allclose(made[32:64, :32], turned.clip(0, 1), atol=1e-5)
    np.testing.assert_allclose(made[:64, 192:256], rocket.clip(0, 1), atol=1e-5)
