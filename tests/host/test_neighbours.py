"""ToDo together with its neighbours: other extensions, and features of the host that change generation or attention.

Either both act, or ToDo leaves blocks to the neighbour and says so. In both cases the image must equal one made with
the probe's reference, which downsamples by other means.
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
from tests.host.webui import Result, WebUI

MANUAL = {"mode": "manual", "factor": 2}
FIXED = {**MANUAL, "phase": "fixed"}
PLAIN = ("width", "height", "steps", "cfg_scale", "seed", "sampler_name", "denoising_strength")
"""The fields of a neighbour's request that do not turn it on."""
OPTIMISATIONS = {
    "sdp": "sdp - scaled dot product",
    "sdp-no-mem": "sdp-no-mem - scaled dot product without memory efficient attention",
    "sub-quadratic": "sub-quadratic",
    "V1": "V1 - original v1",
    "InvokeAI": "InvokeAI",
    "Doggettx": "Doggettx",
    "None": "None",
}
"""A1111's attention optimisations, with their titles in its settings."""


@contextmanager
def options(webui: WebUI, **changed: Any) -> Iterator[None]:
    """Changes options of the host for the duration of a `with` block. Skips the test if the host lacks one."""
    before = webui.get("/sdapi/v1/options").json()
    if missing := set(changed) - set(before):
        pytest.skip(f"this WebUI has no option {', '.join(missing)}")
    webui.http.post("/sdapi/v1/options", json=changed)
    try:
        yield
    finally:
        webui.http.post("/sdapi/v1/options", json={name: _whole(before[name]) for name in changed})


def _whole(value: Any) -> Any:
    """An option as the host needs it: its API gives whole numbers as floats, at which Neo's token merging fails."""
    return int(value) if isinstance(value, float) and value == int(value) else value


@contextmanager
def optimised(webui: WebUI, name: str, **changed: Any) -> Iterator[None]:
    """Sets an attention optimisation, and other options, for the duration of a `with` block.

    Checks that it is applied, because the host silently uses another one if it does not know a title.
    """
    with options(webui, cross_attention_optimization=OPTIMISATIONS[name], **changed):
        state = webui.get("/todo-probe/optimisation").json()
        if not state["offered"]:
            pytest.skip("this WebUI ignores the option cross_attention_optimization")
        assert state["applied"] == name
        yield


@contextmanager
def reference(webui: WebUI, factor: int, deep: bool = False) -> Iterator[None]:
    """Turns on the probe's reference for the finest self-attention, or for all outside the middle block."""
    webui.http.post("/todo-probe/reference", params={"factor": factor, "deep": deep})
    try:
        yield
    finally:
        webui.http.post("/todo-probe/reference", params={"factor": 1})


@pytest.fixture(scope="module")
def source(webui: WebUI) -> Result:
    """The image that img2img requests start from."""
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
def test_beside(webui: WebUI, neighbour: Neighbour, dense: list[str], source: Result) -> None:
    if neighbour.script and neighbour.script not in webui.scripts:
        pytest.skip(f"this WebUI has no script {neighbour.script!r}")
    payload = neighbour.request(webui) if callable(neighbour.request) else neighbour.request

    def generate(todo: list[Any] | None = None, payload: Payload = payload) -> Result:
        if not neighbour.from_image:
            return webui.txt2img(todo, **payload)
        # The host encodes an image with noise that depends on the previous generation, so this must always be the same.
        webui.txt2img(steps=1)
        made(webui)
        return webui.img2img(source.images[0], todo, **payload)

    without = generate(payload={name: payload[name] for name in PLAIN if name in payload})
    with options(webui, **neighbour.options):
        alone = generate()
        made(webui)
        webui.get("/todo-probe/log")
        both = generate([FIXED])
        calls = made(webui)
        log = "\n".join(webui.get("/todo-probe/log").json())
        with reference(webui, factor=2):
            expected = generate()
        again = generate()
    made(webui)
    assert (alone.sha == without.sha) is (neighbour.outcome == DENSE), "whether the neighbour acts"
    assert calls, "the probe saw no UNet call"
    assert both.sha == expected.sha
    assert (both.sha == alone.sha) is (neighbour.outcome == ASIDE)
    assert ("ToDo effect: none" in both.infotext) is (neighbour.outcome == ASIDE)
    assert log, "a generation with ToDo logs what was done"
    assert neighbour.left_whole in log
    expected_text = "no effect" if neighbour.outcome == ASIDE else "left whole"
    assert (expected_text in log) is bool(neighbour.left_whole)
    assert again.sha == alone.sha, "without ToDo, the neighbour alone acts again"
    assert webui.txt2img().sha == dense, "without both, the image is dense again"


@pytest.mark.parametrize("optimisation", OPTIMISATIONS)
def test_every_attention_optimisation(webui: WebUI, optimisation: str) -> None:
    with optimised(webui, optimisation):
        dense = webui.txt2img(steps=2)
        assert not any(active(made(webui)))
        result = webui.txt2img([MANUAL], steps=2)
        assert all(active(made(webui)))
        assert result.sha != dense.sha
        assert webui.txt2img(steps=2).sha == dense.sha


@pytest.fixture
def new_modules(webui: WebUI, checkpoints: list[str]) -> Iterator[None]:
    """Makes the host create its model again, by loading a model of another layout in between.

    HyperTile keeps the forward of the first optimisation that it finds on a module, so each case needs new modules.
    """
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
            pytest.skip("the Forge family only merges queries; keys and values stay whole, so ToDo acts")
        assert both.sha == alone.sha
        assert "merged" in both.infotext
    assert webui.txt2img().sha == dense


def test_token_merging_in_the_hires_pass_only(webui: WebUI, dense: list[str]) -> None:
    hires = {"enable_hr": True, "hr_upscaler": "Latent", "hr_scale": 1.5, "denoising_strength": 0.6}
    with options(webui, token_merging_ratio_hr=0.5):
        result = webui.txt2img([MANUAL], **hires)
        on = active(made(webui))
        assert on[:4] == [True] * 4
        assert result.images
    assert webui.txt2img().sha == dense
