"""Checkpoints are loaded as diffusers loads them, from folders and single files, and draw what the pipeline draws."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from benchmarks.fidelity.methods import METHODS, PAPER
from benchmarks.pipeline import loading
from benchmarks.pipeline.image_model import PipelineImageModel
from benchmarks.sampling import Request, Sampling
from tests.benchmarks.small_checkpoints import save_single_file
from tests.unit.small_models import assert_no_hooks
from todo import SettingsError

CPU = torch.device("cpu")
SIZE = (32, 48)
SAMPLING = Sampling(3, "ddim", 5.0)


def load(where, config=None):
    return loading.load(str(where), config and str(config), CPU, torch.float32)


@pytest.fixture(scope="module", params=["sd1", "sdxl"])
def folder(request, small_checkpoints):
    return small_checkpoints[request.param]


def drawn(image_model: PipelineImageModel, **changes) -> np.ndarray:
    request = Request(**{"prompt": "a lamp", "seeds": (3,), "size": SIZE, "sampling": SAMPLING, **changes})
    (image,) = image_model.decode(image_model.sample(request))
    return image


def test_a_folder_draws_what_its_pipeline_draws(folder):
    """Text encoder, loop and VAE called one by one, and the same call by diffusers' own interface."""
    image_model = PipelineImageModel(load(folder))
    image = drawn(image_model)
    assert image.shape == (*SIZE, 3)
    expected = load(folder)(
        "a lamp", height=SIZE[0], width=SIZE[1], num_inference_steps=3, guidance_scale=5.0, output_type="np",
        generator=torch.Generator().manual_seed(3),
    ).images[0]  # fmt: skip
    np.testing.assert_allclose(image, expected, atol=1e-4)
    for other in ({"prompt": "a boat"}, {"seeds": (4,)}, {"sampling": Sampling(3, "ddim", 1.0)}):
        assert np.abs(drawn(image_model, **other) - image).max() > 1e-3


@pytest.mark.parametrize("ending", ["safetensors", "ckpt"])
def test_a_single_file_draws_what_the_folder_draws(folder, tmp_path, ending):
    pipeline = load(folder)
    save_single_file(pipeline, tmp_path / f"model.{ending}")
    image_model = PipelineImageModel(load(tmp_path / f"model.{ending}", folder))
    assert type(image_model.pipeline) is type(pipeline)
    np.testing.assert_allclose(drawn(image_model), drawn(PipelineImageModel(pipeline)), atol=1e-5)


@pytest.mark.parametrize("sampler", ["euler", "euler a", "dpm++ 2m", "heun", "ddim", "lcm"])
def test_every_sampler_tells_the_patch_its_steps(small_checkpoints, sampler):
    image_model = PipelineImageModel(load(small_checkpoints["sd1"]))
    request = Request("a lamp", (3,), SIZE, Sampling(4, sampler, 5.0))
    seen = []

    class Listener:
        def at(self, step, steps):
            seen.append((step, steps))

    image_model.unet.register_forward_pre_hook(lambda module, args: seen.append("call"))
    image_model.sample(request, Listener())
    steps = [before[0] for before, after in pairwise(seen) if after == "call"]
    assert steps == ([0, 0, 1, 1, 2, 2, 3] if sampler == "heun" else [0, 1, 2, 3])


def test_a_method_changes_the_image_and_is_removed(folder):
    image_model = PipelineImageModel(load(folder))
    before = drawn(image_model)
    with METHODS[f"{PAPER}, f=2"].apply(image_model.unet, image_model.latent_size(SIZE)) as patch:
        image_model.sample(Request("a lamp", (3,), SIZE, SAMPLING), patch)
        assert all(row.downsampled == row.calls > 0 for row in patch.report() if row.level == 1)
    assert np.array_equal(drawn(image_model), before)
    assert_no_hooks(image_model.unet)


def test_two_images_of_a_batch_are_those_of_two_batches(folder):
    image_model = PipelineImageModel(load(folder))
    images = image_model.decode(image_model.sample(Request("a lamp", (3, 4), SIZE, SAMPLING)))
    for seed, image in zip((3, 4), images, strict=True):
        np.testing.assert_allclose(image, drawn(image_model, seeds=(seed,)), atol=1e-4)


@pytest.mark.parametrize(("where", "reason"), [
    ("missing.safetensors", "it must be a folder or hub id of a diffusers pipeline, or a .safetensors or .ckpt file"),
    ("no/such/folder", "it must be a folder or hub id"),
    ("{}/empty", "diffusers cannot load it: "),
    ("{}/flux", "it is a FluxPipeline, and must be a StableDiffusionPipeline or StableDiffusionXLPipeline"),
    ("{}/broken.safetensors", "diffusers cannot load it: "),
    ("{}/broken.ckpt", "diffusers cannot load it: "),
])  # fmt: skip
def test_what_is_no_pipeline_is_refused_in_one_line(tmp_path, where, reason):
    for name, text in {"empty/readme": "", "flux/model_index.json": '{"_class_name": "FluxPipeline"}',
                       "broken.safetensors": "no weights", "broken.ckpt": "no weights"}.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(SettingsError) as refused:
        load(where.format(tmp_path))
    assert f"pipeline: {where.format(tmp_path)!r} is not allowed; {reason}" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_only_a_single_file_takes_a_configuration(small_checkpoints):
    with pytest.raises(SettingsError, match=r"^config: 'x/y' is not allowed; only a single file needs"):
        load(small_checkpoints["sd1"], "x/y")


def test_a_name_does_not_say_where_the_checkpoint_lies(tmp_path):
    (tmp_path / "model.safetensors").write_text("")
    assert loading.name(str(tmp_path / "model.safetensors")) == "model.safetensors"
    assert loading.name(f"{tmp_path}/") == tmp_path.name
    assert loading.name("owner/name") == "owner/name"
