"""Models that change in mid-generation: refiner, hires checkpoint, a request's own checkpoint, SDXL."""

from __future__ import annotations

import pytest

from tests.host.calls import active, by_size, finest_keys, made
from tests.host.webui import HIRES, WebUI

MANUAL = {"mode": "manual", "factor": 2}


@pytest.fixture
def other(checkpoints: list[str]) -> str:
    if len(checkpoints) < 2:
        pytest.skip("the WebUI has a single checkpoint")
    return checkpoints[1]


def test_refiner(webui: WebUI, other: str, dense: list[str]) -> None:
    webui.txt2img([MANUAL], refiner_checkpoint=other, refiner_switch_at=0.5)
    calls = made(webui)
    assert active(calls) == [True] * 4
    assert webui.get("/todo-probe/left").json() == []
    assert webui.txt2img().sha == dense


def test_hires_checkpoint(webui: WebUI, other: str, dense: list[str]) -> None:
    webui.txt2img([MANUAL], **HIRES, hr_checkpoint_name=other)
    low, high = by_size(made(webui))
    assert all(active(low))
    assert all(active(high))
    assert webui.txt2img().sha == dense


def test_checkpoint_of_the_request(webui: WebUI, other: str, dense: list[str]) -> None:
    webui.txt2img([MANUAL], override_settings={"sd_model_checkpoint": other})
    assert all(active(made(webui)))
    assert webui.txt2img().sha == dense


def test_sdxl_acts_at_its_finest_level(webui: WebUI, checkpoints: list[str], dense: list[str]) -> None:
    sdxl = next((title for title in checkpoints if "xl" in title.lower()), None)
    if sdxl is None:
        pytest.skip("the WebUI has no SDXL checkpoint")
    webui.txt2img([MANUAL], override_settings={"sd_model_checkpoint": sdxl})
    assert {finest_keys(call) for call in made(webui)} == {8 * 8}
    everywhere = {"mode": "manual", "factor": 5, "deep_factor": 5, "max_downsample": 8}
    webui.txt2img([everywhere], width=72, height=72, override_settings={"sd_model_checkpoint": sdxl})
    assert {finest_keys(call) for call in made(webui)} == {1}
    assert webui.txt2img().sha == dense
