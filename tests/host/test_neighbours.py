"""Neighbours beside ToDo: either both act, or ToDo leaves blocks to the neighbour and says so.

Whichever it is, the picture must be equal to one made by the probe's reference, which downsamples by other means.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.host.calls import active, made
from tests.host.checkpoints import load_another_layout
from tests.host.neighbours import NEIGHBOURS
from tests.host.neighbours.neighbour import ASIDE, DENSE, Neighbour, Payload
from tests.host.webui import Picture, WebUI

MANUAL = {"mode": "manual", "factor": 2}
FIXED = {**MANUAL, "phase": "fixed"}
PLAIN = ("width", "height", "steps", "cfg_scale", "seed", "sampler_name", "denoising_strength")
"""What a neighbour's request may set that does not turn it on."""
OPTIMISATIONS = {
    "sdp": "sdp - scaled dot product",
    "sdp-no-mem": "sdp-no-mem - scaled dot product without memory efficient attention",
    "sub-quadratic": "sub-quadratic",
    "V1": "V1 - original v1",
    "InvokeAI": "InvokeAI",
    "Doggettx": "Doggettx",
    "None": "None",
}
"""A1111's attention optimisations with their titles in its settings."""


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


@contextmanager
def optimised(webui: WebUI, name: str, **changed: Any) -> Iterator[None]:
    """An attention optimisation, and other options, for a while. The host takes another one for a title that it does
    not know, and says nothing."""
    with options(webui, cross_attention_optimization=OPTIMISATIONS[name], **changed):
        found = webui.get("/todo-probe/optimisation").json()
        if not found["offered"]:
            pytest.skip("this WebUI ignores the option cross_attention_optimization")
        assert found["applied"] == name
        yield


@contextmanager
def reference(webui: WebUI, factor: int, deep: bool = False) -> Iterator[None]:
    """The probe's own downsampling of the finest self-attention, or of all outside the middle block."""
    webui.http.post("/todo-probe/reference", params={"factor": factor, "deep": deep})
    try:
        yield
    finally:
        webui.http.post("/todo-probe/reference", params={"factor": 1})


@pytest.fixture(scope="module")
def source(webui: WebUI) -> Picture:
    """The picture that img2img requests start from."""
    return webui.txt2img(seed=11)


@pytest.mark.parametrize("settings", [{"factor": 2, "deep_factor": 2}, {"grid": 16}], ids=["manual", "auto"])
def test_all_levels_equal_the_reference(webui: WebUI, dense: list[str], settings: dict[str, Any]) -> None:
    """At 256 pixels the finest level has 32 tokens per side."""
    own = webui.txt2img([{**settings, "phase": "fixed"}])
    with reference(webui, factor=2, deep=True):
        expected = webui.txt2img()
    assert own.sha == expected.sha != dense
    assert webui.txt2img().sha == dense


@pytest.mark.parametrize("neighbour", NEIGHBOURS, ids=str)
def test_beside(webui: WebUI, neighbour: Neighbour, dense: list[str], source: Picture) -> None:
    if neighbour.script and neighbour.script not in webui.scripts:
        pytest.skip(f"this WebUI has no script {neighbour.script!r}")
    payload = neighbour.request(webui) if callable(neighbour.request) else neighbour.request

    def picture(todo: list[Any] | None = None, payload: Payload = payload) -> Picture:
        if not neighbour.from_image:
            return webui.txt2img(todo, **payload)
        # The host encodes an image with noise that depends on the generation before: the same one each time, then.
        webui.txt2img(steps=1)
        made(webui)
        return webui.img2img(source.images[0], todo, **payload)

    without = picture(payload={name: payload[name] for name in PLAIN if name in payload})
    with options(webui, **neighbour.options):
        alone = picture()
        made(webui)
        webui.get("/todo-probe/log")
        both = picture([FIXED])
        calls = made(webui)
        said = "\n".join(webui.get("/todo-probe/log").json())
        with reference(webui, factor=2):
            expected = picture()
        again = picture()
    made(webui)
    assert (alone.sha == without.sha) is (neighbour.outcome == DENSE), "whether the neighbour acts"
    assert calls, "the probe saw no UNet call"
    assert both.sha == expected.sha
    assert (both.sha == alone.sha) is (neighbour.outcome == ASIDE)
    assert ("ToDo effect: none" in both.infotext) is (neighbour.outcome == ASIDE)
    assert said, "a generation with ToDo logs what was done"
    assert neighbour.left_whole in said
    told = "no effect" if neighbour.outcome == ASIDE else "left whole"
    assert (told in said) is bool(neighbour.left_whole)
    assert again.sha == alone.sha, "nothing of ToDo is left beside the neighbour"
    assert webui.txt2img().sha == dense, "nothing of either is left"


@pytest.mark.parametrize("optimisation", OPTIMISATIONS)
def test_every_attention_optimisation(webui: WebUI, optimisation: str) -> None:
    with optimised(webui, optimisation):
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
    load_another_layout(webui, checkpoints)
    yield
    load_another_layout(webui, checkpoints)
    webui.txt2img(steps=1)


@pytest.mark.parametrize("optimisation", OPTIMISATIONS)
def test_hypertile_tiles_and_todo_steps_aside(webui: WebUI, new_modules: None, optimisation: str) -> None:
    size = {"width": 512, "height": 512, "steps": 1}
    with optimised(webui, optimisation, hypertile_enable_unet=True):
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
        if not webui.is_a1111:
            pytest.skip("the Forge family merges only the queries; keys and values are whole there, and ToDo acts")
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
