"""Compare where something else than the page or the API asks for the images: it gets those of its generation alone.

The scripts do what A1111's own ones do with the images: count them, tile them, continue with one of them, exchange the
sampling of `p`.
"""

from __future__ import annotations

import types
from copy import copy

import pytest
import torch

from .generations import add_script, at_each_step, crash_at

FACTOR_2 = {"factor": 2}
NOTE = "Compare: nothing is compared where"


def counted(host, p):
    """As prompt matrix: one generation of several prompts, laid out in a grid of exactly as many."""
    p.n_iter = 4
    processed = host.processing.process_images(p)
    assert len(processed.images) == 4
    return processed


def tiled(host, p):
    """As SD upscale and poor man's outpainting: the tiles are all images of all generations, in their order."""
    tiles = []
    for seed in (1, 2, 3):
        p.seed = seed
        processed = host.processing.process_images(p)
        tiles += processed.images
    processed.images = tiles
    return processed


def plotted(host, p):
    """As X/Y/Z plot: a copy of `p` for each cell."""
    cells = []
    for steps in (2, 3):
        cell = copy(p)
        cell.steps = steps
        cells.append(host.processing.process_images(cell))
    cells[0].images += cells[1].images
    return cells[0]


def continued(host, p):
    """As loopback: the next generation begins where the last image is."""
    for _ in range(3):
        processed = host.processing.process_images(p)
        p.seed = int(processed.images[-1].convert("L").getpixel((3, 3)))
    return processed


def exchanged(host, p):
    """As img2img alternative test: it replaces a method of `p` by a function that has the original `p`."""

    def sample(self, *given):
        return type(p).sample(p, *given) + 0.1

    p.sample = types.MethodType(sample, p)
    return host.processing.process_images(p)


def nothing_but_settings(host, p):
    """A script that changes `p` and leaves the generation to the host."""
    p.steps = 3


SCRIPTS = (counted, tiled, plotted, continued, exchanged)


def driven(host, monkeypatch, script, todo, tab="txt2img", **fields):
    """The images that a script returns."""
    runner = getattr(host.scripts, f"scripts_{tab}")
    monkeypatch.setattr(runner, "selectable_scripts", [types.SimpleNamespace(run=lambda p: script(host, p))])
    p = host.p([todo], tab, **fields)
    p.script_args[0] = 1
    return host.run(p)


@pytest.mark.parametrize("compare", [True, "settings"])
@pytest.mark.parametrize("tab", ["txt2img", "img2img"])
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_a_script_gets_the_images_of_its_generation_alone(host, monkeypatch, script, tab, compare):
    alone = driven(host, monkeypatch, script, FACTOR_2, tab)
    host.images.saved.clear()
    host.log.records.clear()
    compared = driven(host, monkeypatch, script, {**FACTOR_2, "compare": compare}, tab)
    assert torch.equal(compared.latents, alone.latents)
    assert len(compared.processed.images) == len(alone.processed.images)
    assert compared.processed.infotexts == alone.processed.infotexts
    assert host.images.saved == []
    (note,) = {line for line in compared.processed.comments.splitlines() if "Compare" in line}
    assert note.startswith(NOTE)
    assert "test_compare_scripts” asks for the images; generate without it to compare" in note
    assert [line for line in host.log.at("INFO") if "Compare" in line] == [note]


def test_a_script_that_leaves_the_generation_to_the_host_may_be_compared(host, monkeypatch):
    outcome = driven(host, monkeypatch, nothing_but_settings, {**FACTOR_2, "compare": True})
    assert len(outcome.processed.images) == 2
    assert torch.equal(outcome.latents, host.generate(FACTOR_2, steps=3).latents)


@pytest.mark.parametrize("runner", ["its own copy", "the host's"])
def test_a_generation_inside_another_gets_its_images_alone(host, monkeypatch, runner):
    """As ADetailer's, which takes the first image and fails on others; with whichever scripts."""
    inner = []

    class Detailer(host.scripts.Script):
        def postprocess_image(self, p, pp, *args):
            if not getattr(p, "inner", False):
                detail = host.p([{**FACTOR_2, "compare": True}], tab="img2img")
                detail.inner = True
                if runner == "its own copy":
                    detail.scripts = copy(p.scripts)
                inner.append(host.processing.process_images(detail))

    add_script(host, monkeypatch, Detailer())
    outcome = host.generate({**FACTOR_2, "compare": True})
    assert [hasattr(image, "latent") for image in outcome.processed.images] == [True, False]
    assert [len(each.images) for each in inner] == [1, 1]
    assert not any(NOTE in each.comments for each in inner)


def test_an_extension_that_asks_for_a_generation_gets_its_images_alone(host):
    """One that has a page of its own, say."""
    p = host.p([{**FACTOR_2, "compare": True}])
    assert len(host.processing.process_images(p).images) == 1
    assert p.scripts is host.scripts.scripts_txt2img


def test_scripts_that_come_after_ours_see_the_images_of_the_generation_alone(host, monkeypatch):
    seen = []

    class Saver(host.scripts.Script):
        def postprocess(self, p, processed, *args):
            seen.append(len(processed.images))

    add_script(host, monkeypatch, Saver())
    outcome = host.generate({**FACTOR_2, "compare": "settings"}, batch_size=2)
    assert seen == [2] * 5
    assert len(outcome.processed.images) == 2 * 5 + 1


def test_the_dense_image_is_that_of_a_request_without_todo_beside_a_script_that_replaces_sampling(host, monkeypatch):
    """An always-on one, as tiled samplers do it, in the event before every sampling."""

    class Tiled(host.scripts.Script):
        def process_batch(self, p, *args, **kwargs):
            p.sample = types.MethodType(lambda self, *given: type(p).sample(self, *given) * 1.1, p)

    add_script(host, monkeypatch, Tiled(), first=True)
    steps = []
    at_each_step(host, lambda _: steps.append(1))
    compared = host.generate({**FACTOR_2, "compare": "settings"})
    dense, todo = host.generate(), host.generate(FACTOR_2)
    assert torch.equal(compared.latents[0], todo.latents[0])
    assert torch.equal(compared.latents[1], dense.latents[0])


@pytest.mark.parametrize("compare", [True, "settings"])
def test_a_batch_of_controlnet_keeps_its_images(host, monkeypatch, compare):
    """sd-webui-controlnet, scripts/batch_hijack.py: many generations of one `p` in the place of one."""
    original = host.processing.process_images_inner
    batches = []

    def process_images_cn_batch(p):
        made = [original(p) for _ in range(3)]
        made[-1].images = [image for each in made for image in each.images]
        return made[-1]

    def process_images_cn_hijack(p):
        if batches:
            return original(p)
        batches.append(p)
        return process_images_cn_batch(p)

    monkeypatch.setattr(host.processing, "process_images_inner", process_images_cn_hijack)
    outcome = host.generate({**FACTOR_2, "compare": compare})
    assert [hasattr(image, "latent") for image in outcome.processed.images] == [True] * 3
    assert f"{NOTE} a batch of ControlNet asks" in outcome.processed.comments


@pytest.mark.parametrize(
    ("name", "caller"),
    [
        ("txt2img_upscale", "the gallery's upscale button"),
        ("txt2img_upscale_function", "the gallery's upscale button"),
        ("process_batch", "a batch from a directory"),
    ],
)
def test_other_functions_of_the_page_get_their_images_alone(host, monkeypatch, name, caller):
    """They keep a list of images and infotexts of their own."""
    module = host.txt2img
    function = types.FunctionType(module.txt2img.__code__.replace(co_name=name), vars(module))
    monkeypatch.setattr(module, "txt2img", function)
    outcome = host.generate({**FACTOR_2, "compare": True})
    assert len(outcome.processed.images) == 1
    assert f"{NOTE} {caller} asks for the images" in outcome.processed.comments


@pytest.mark.parametrize("ending", ["complete", "failed"])
def test_a_comparison_ends_with_its_generation(host, monkeypatch, ending):
    """The same `p` is then like any other."""
    p = host.p([{**FACTOR_2, "compare": True}])
    if ending == "failed":
        with monkeypatch.context() as failing:
            crash_at(host, failing, 2)
            with pytest.raises(RuntimeError):
                host.run(p)
    else:
        host.run(p)
    p.script_args = host.p([FACTOR_2]).script_args
    said = []
    at_each_step(host, lambda _: said.append((host.shared.state.textinfo, host.shared.state.job_count)))
    assert len(host.run(p).processed.images) == 1
    assert set(said) == {(None, 1)}
    assert p.scripts is host.scripts.scripts_txt2img


def test_an_extension_that_generates_with_the_same_p_gets_its_images_alone(host, monkeypatch):
    inner = []

    class Again(host.scripts.Script):
        def postprocess(self, p, processed, *args):
            if not inner:
                inner.append(None)
                inner.append(len(host.processing.process_images(p).images))

    add_script(host, monkeypatch, Again())
    outcome = host.generate({**FACTOR_2, "compare": True})
    assert inner[1] == 1
    assert len(outcome.processed.images) == 2
