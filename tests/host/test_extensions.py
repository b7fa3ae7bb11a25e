"""Extensions of A1111 that call the UNet at other times, or other parts of it, than a plain generation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.host.calls import active, finest_keys, made
from tests.host.neighbours.extensions_a1111 import ADETAILER, DEEPCACHE, TILED, WITH_TODO, detailed, inverted
from tests.host.neighbours.forge_family import CONTROLNET
from tests.host.neighbours.neighbour import Payload
from tests.host.test_neighbours import options, reference
from tests.host.webui import WebUI

MANUAL = {"mode": "manual", "factor": 2}


def with_script(webui: WebUI, title: str) -> None:
    if title not in webui.scripts:
        pytest.skip(f"this WebUI has no script {title!r}")


@contextmanager
def ticked(webui: WebUI, label: str) -> Iterator[None]:
    """Ticks a checkbox of the txt2img tab for the duration of a `with` block, through its event on the page.

    For scripts that do not read the checkbox from their arguments.
    """
    page = webui.get("/config").json()
    fields = {component["id"]: component["props"] for component in page["components"]}
    box = next((number for number, field in fields.items() if field.get("label") == label), None)
    if box is None:
        pytest.skip(f"this WebUI's page has no checkbox {label!r}")
    number, event = next((i, it) for i, it in enumerate(page["dependencies"]) if it["targets"] == [box])

    def tick(on: bool) -> None:
        data = [on if field == box else fields[field]["value"] for field in event["inputs"]]
        answer = webui.http.post("/run/predict", json={"fn_index": number, "data": data, "session_hash": "tests"})
        assert answer.status_code == 200, answer.text

    tick(True)
    try:
        yield
    finally:
        tick(False)


def test_style_align_of_controlnet(webui: WebUI, dense: list[str]) -> None:
    """It joins the tokens of all images of a batch into one sequence of grids: queries as well as keys and values."""
    with_script(webui, CONTROLNET)
    if not webui.is_a1111:
        pytest.skip("the StyleAlign of the Forge family is in the list of neighbours")
    without = webui.txt2img(batch_size=2)
    with ticked(webui, "[StyleAlign] Align image style in the batch."):
        alone = webui.txt2img(batch_size=2)
        made(webui)
        both = webui.txt2img([{**MANUAL, "phase": "fixed"}], batch_size=2)
        calls = made(webui)
        with reference(webui, factor=2):
            expected = webui.txt2img(batch_size=2)
        again = webui.txt2img(batch_size=2)
    made(webui)
    assert alone.sha != without.sha
    assert {finest_keys(call) for call in calls} == {2 * 16 * 16}
    assert both.sha == expected.sha
    assert both.sha != alone.sha
    assert again.sha == alone.sha
    assert webui.txt2img().sha == dense


@pytest.mark.parametrize(
    ("setting", "inside"),
    [({}, False), (WITH_TODO, True), ({"ad_only_selected_scripts": False}, True)],
    ids=["as it comes", "with ToDo in its list", "with all scripts"],
)
def test_adetailer_runs_todo_inside_if_told_so(webui: WebUI, dense: list[str], setting: Payload, inside: bool) -> None:
    with_script(webui, ADETAILER)
    request: dict[str, Any] = {**detailed(webui), "n_iter": 2}
    with options(webui, **setting):
        alone = webui.txt2img(**request)
        before = made(webui)
        result = webui.txt2img([MANUAL], **request)
        on = active(made(webui))
        again = webui.txt2img(**request)
    made(webui)
    inner = (len(before) - 8) // 2
    assert inner > 0, "the detector found nothing"
    assert not any(active(before))
    assert on == ([True] * 4 + [inside] * inner) * 2
    assert result.sha != alone.sha
    assert again.sha == alone.sha
    assert webui.txt2img().sha == dense


@pytest.mark.parametrize("method", ["MultiDiffusion", "Mixture of Diffusers"])
def test_noise_inversion_stays_dense(webui: WebUI, dense: list[str], method: str) -> None:
    """It calls the UNet itself, before sampling begins."""
    with_script(webui, TILED)
    source = webui.txt2img(seed=11, width=512, height=256).images[0]
    # From here on the probe records calls. The extension reuses the last inversion unless the number of steps differs.
    request = inverted(method, steps_back=3)
    webui.img2img(source, **inverted(method, steps_back=2))
    webui.txt2img(steps=1, width=64, height=64)
    with_todo = webui.img2img(source, [MANUAL], **request)
    calls = made(webui)
    sampling = [call for call in calls if active([call])[0]]
    assert with_todo.images
    assert len(sampling) < len(calls)
    assert calls[-len(sampling) :] == sampling, "once sampling has begun, every call is downsampled"
    assert webui.txt2img().sha == dense


def test_deepcache_leaves_out_the_deep_levels(webui: WebUI, dense: list[str]) -> None:
    with_script(webui, DEEPCACHE)
    setting = {
        "deepcache_enable_pass": "both passes",
        "deepcache_full_run_step_rate": 2,
        "deepcache_cache_enable_step_percentage": 0.0,
        "deepcache_cache_resnet_level": 2,
    }
    with options(webui, **setting):
        webui.txt2img([MANUAL], steps=6)
        calls = made(webui)
    cached = [call for call in calls if set(call["keys"]) == {"1024"}]
    assert 0 < len(cached) < len(calls), "some steps only compute the outer blocks"
    assert {finest_keys(call) for call in calls} == {256}
    assert webui.txt2img().sha == dense


def test_a_unet_of_another_engine_is_left_alone(webui: WebUI, dense: list[str]) -> None:
    if not webui.is_a1111:
        pytest.skip("the Forge family has no UNets of other engines")
    with options(webui, sd_unet="ToDo probe"):
        before = webui.txt2img()
        webui.get("/todo-probe/log")
        result = webui.txt2img([MANUAL])
        log = webui.get("/todo-probe/log").json()
    made(webui)
    assert result.sha == before.sha
    assert "ToDo effect: none" in result.infotext.replace('"', "")
    assert len([line for line in log if "no effect" in line]) == 1
    assert webui.txt2img().sha == dense
