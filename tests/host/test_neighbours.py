"""The host's own accelerators beside ToDo: it leaves the blocks that they change, and the picture is theirs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.host.calls import active, made
from tests.host.webui import WebUI

MANUAL = {"mode": "manual", "factor": 2}
OPTIMISATIONS = ("sdp", "sdp-no-mem", "sub-quadratic", "V1", "InvokeAI", "Doggettx", "None")


@contextmanager
def options(webui: WebUI, **changed: Any) -> Iterator[None]:
    """Host options for a while. One that this host does not have skips the test."""
    before = webui.get("/sdapi/v1/options").json()
    if missing := set(changed) - set(before):
        pytest.skip(f"this WebUI has no option {', '.join(missing)}")
    webui.http.post("/sdapi/v1/options", json=changed)
    try:
        yield
    finally:
        webui.http.post("/sdapi/v1/options", json={name: before[name] for name in changed})


@pytest.mark.parametrize("optimisation", OPTIMISATIONS)
def test_every_attention_optimisation(webui: WebUI, optimisation: str) -> None:
    with options(webui, cross_attention_optimization=optimisation):
        dense = webui.txt2img(steps=2)
        assert not any(active(made(webui)))
        picture = webui.txt2img([MANUAL], steps=2)
        assert all(active(made(webui)))
        assert picture.sha != dense.sha
        assert webui.txt2img(steps=2).sha == dense.sha


@pytest.fixture
def new_modules(webui: WebUI, checkpoints: list[str]) -> Iterator[None]:
    """HyperTile keeps the forward of the first optimisation that it met on a module, so each case needs a model made
    anew, before and after: a model of another layout in between brings that about."""
    sdxl = next((title for title in checkpoints if "xl" in title.lower()), None)
    if sdxl is None:
        pytest.skip("the WebUI has no SDXL checkpoint to switch to and back")
    switch = {"steps": 1, "width": 64, "height": 64, "override_settings": {"sd_model_checkpoint": sdxl}}
    webui.txt2img(**switch)
    yield
    webui.txt2img(**switch)
    webui.txt2img(steps=1)


@pytest.mark.parametrize("optimisation", OPTIMISATIONS)
def test_hypertile_tiles_and_todo_steps_aside(webui: WebUI, new_modules: None, optimisation: str) -> None:
    size = {"width": 512, "height": 512, "steps": 1}
    with options(webui, hypertile_enable_unet=True, cross_attention_optimization=optimisation):
        alone = webui.txt2img(**size)
        made(webui)
        both = webui.txt2img([MANUAL], **size)
        (call,) = made(webui)
    assert call["keys"]["2048"] == [2048], "blocks that HyperTile tiles are left whole"
    assert call["keys"]["4096"] == [1024], "the one that it does not tile is downsampled"
    assert both.sha != alone.sha


def test_token_merging_merges_and_todo_steps_aside(webui: WebUI, dense: list[str]) -> None:
    with options(webui, token_merging_ratio=0.5):
        alone = webui.txt2img()
        assert alone.sha != dense
        both = webui.txt2img([MANUAL])
        if webui.is_forge:
            pytest.skip("Forge merges only the queries; keys and values are whole there, and ToDo acts")
        assert both.sha == alone.sha
        assert "merged" in both.infotext
    assert webui.txt2img().sha == dense


def test_token_merging_in_the_hires_pass_only(webui: WebUI, dense: list[str]) -> None:
    hires = {"enable_hr": True, "hr_upscaler": "Latent", "hr_scale": 1.5, "denoising_strength": 0.6}
    with options(webui, token_merging_ratio_hr=0.5):
        picture = webui.txt2img([MANUAL], **hires)
        on = active(made(webui))
        assert on[:4] == [True] * 4
        assert picture.images
    assert webui.txt2img().sha == dense
