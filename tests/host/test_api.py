"""Payloads, infotext and routes in a running WebUI."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import todo
from tests.examples import example
from tests.host.plot import plot, script_arguments
from tests.host.webui import WebUI
from todo.settings import KNOBS

BAD_PAYLOADS: list[tuple[list[Any], str]] = [
    ([{"factr": 2}], "factor"),
    ([{"enable": True}], "enabled"),
    ([{"mode": "automatic"}], "mode"),
    ([{"mode": 1}], "mode"),
    ([{"factor": "abc"}], "factor"),
    ([{"factor": 0}], "factor"),
    ([{"factor": 1000}], "factor"),
    ([{"factor": []}], "factor"),
    ([{"factor": True}], "factor"),
    ([{"factor": "nan"}], "factor"),
    ([{"factor": "1e999"}], "factor"),
    ([{"deep_factor": -1}], "deep_factor"),
    ([{"grid": 15}], "grid"),
    ([{"grid": 64.5}], "grid"),
    ([{"grid": {"side": 64}}], "grid"),
    ([{"grid": 32, "factor": 2}], "mode"),
    ([{"max_downsample": 3}], "max_downsample"),
    ([{"method": "bicubic"}], "method"),
    ([{"phase": 0}], "phase"),
    ([{"start": 1.5}], "start"),
    ([{"start": 0.9, "end": 0.1}], "start"),
    ([{"end": "half"}], "end"),
    ([{"taper": "maybe"}], "taper"),
    ([{"passes": "second"}], "passes"),
    ([{"hires_factor": 9}], "hires_factor"),
    ([{"enabled": "perhaps"}], "enabled"),
    ([{"enabled": 2}], "enabled"),
    (["yes"], "enabled"),
    ([True, "manual", 64, "wide"], "factor"),
    ([True, "auto", None, 2, 1, 1, "closest"], "method"),
    ([[True]], "enabled"),
]


@pytest.mark.parametrize(("arguments", "field"), BAD_PAYLOADS)
def test_bad_payload_makes_the_image_dense(webui: WebUI, dense: list[str], arguments: list[Any], field: str) -> None:
    result = webui.txt2img(arguments)
    assert result.sha == dense
    assert "ToDo error" in result.infotext
    # A list could come from the page, where controls have labels.
    labels = {name: knob.label for name, knob in KNOBS.items()} | {"enabled": "ToDo · Token Downsampling"}
    name = field if isinstance(arguments[0], dict) else labels[field]
    assert name in result.infotext.partition("ToDo error")[2]


@pytest.mark.parametrize("arguments", [[], [None], [{"enabled": False}], [False, "nonsense", None], ["false"]])
def test_off(webui: WebUI, dense: list[str], arguments: list[Any]) -> None:
    result = webui.txt2img(arguments)
    assert result.sha == dense
    assert "ToDo" not in result.infotext


@pytest.mark.parametrize("value", ["2", 2, 2.0, " 2.0 "])
def test_numbers_as_strings(webui: WebUI, value: Any) -> None:
    assert webui.txt2img([{"factor": value}]).sha == webui.txt2img([{"mode": "manual"}]).sha


@pytest.fixture
def reads_infotext(webui: WebUI) -> None:
    if not webui.reads_infotext:
        pytest.skip("this WebUI's API does not accept infotext")


@pytest.mark.usefixtures("reads_infotext")
@pytest.mark.parametrize(
    "settings",
    [
        {"grid": 16},
        {"mode": "manual", "factor": 2.5, "deep_factor": 1.5, "max_downsample": 2},
        {"factor": 3.5, "method": "nearest-exact", "phase": "fixed", "start": 0.2, "end": 0.8, "taper": True},
    ],
)
def test_infotext_round_trip(webui: WebUI, dense: list[str], settings: dict[str, Any]) -> None:
    result = webui.txt2img([settings])
    assert result.sha != dense
    # Forge needs the field `styles` to read infotext.
    again = webui.post("txt2img", infotext=result.infotext, styles=[]).json()
    assert webui.txt2img(infotext=result.infotext, styles=[]).sha == result.sha
    assert "ToDo" in again["info"]


@pytest.mark.usefixtures("reads_infotext")
def test_infotext_without_todo_leaves_it_off(webui: WebUI, dense: list[str]) -> None:
    assert webui.txt2img(infotext=webui.txt2img().infotext, styles=[]).sha == dense


@pytest.mark.usefixtures("reads_infotext")
def test_infotext_with_a_wrong_value_still_makes_an_image(webui: WebUI) -> None:
    infotext = webui.txt2img([{"grid": 16}]).infotext.replace("ToDo grid: 16", "ToDo grid: many")
    assert "many" in infotext
    assert webui.txt2img(infotext=infotext, styles=[]).images


def test_plan_route_equals_the_library(webui: WebUI) -> None:
    answer = webui.get("/todo/v1/plan", width=1536, height=1024, family="sdxl", grid=32, max_downsample=2).json()
    expected = todo.plan(1536, 1024, todo.Settings(grid=32, max_downsample=2), "sdxl")
    assert answer["summary"] == expected.summary()
    assert answer["unet"] == {"dense": expected.unet.dense, "todo": expected.unet.todo}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"width": 1024}, "height"),
        ({"width": "wide", "height": 1024}, "width"),
        ({"width": 10**9, "height": 1024}, "width"),
        ({"width": 1024, "height": 1024, "family": "sd9"}, "family"),
        ({"width": 1024, "height": 1024, "factr": 2}, "factr"),
        ({"width": 1024, "height": 1024, "grid": 1}, "grid"),
    ],
)
def test_plan_route_refuses(webui: WebUI, query: dict[str, Any], field: str) -> None:
    answer = webui.get("/todo/v1/plan", **query)
    assert answer.status_code == 422
    assert answer.json()["field"] == field


def test_plan_route_knows_the_loaded_model(webui: WebUI, dense: list[str]) -> None:
    answer = webui.get("/todo/v1/plan", width=1024, height=1024).json()
    assert answer["family"] == "sd1"


def test_schema_route(webui: WebUI) -> None:
    properties = webui.get("/todo/v1/schema").json()["properties"]
    assert list(properties) == ["enabled", *todo.Settings().to_dict(), "compare"]


def test_script_is_listed(webui: WebUI) -> None:
    assert "todo" in webui.get("/sdapi/v1/scripts").json()["txt2img"]
    arguments = script_arguments(webui, "todo")
    enabled, *knobs, compare = [argument["value"] for argument in arguments]
    # Not compared one by one, because the page's choices are text.
    assert todo.Settings.from_dict(dict(zip(todo.Settings().to_dict(), knobs, strict=True))) == todo.Settings()
    assert (enabled, compare) == (False, "off")


def test_xyz_plot(webui: WebUI, dense: list[str]) -> None:
    result = webui.txt2img(**plot(webui, "[ToDo] Downsample ratio (per side)", "1,2,3"))
    _grid, *singles = result.sha
    assert singles[-3] == dense[0], "a ratio of 1 is dense"
    assert len(set(singles[-3:])) == 3


def test_example_of_the_readme(webui: WebUI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = (
        example("api", "example")
        .replace("http://127.0.0.1:7860", webui.url)
        .replace("1024", "256")
        .replace('"prompt":', '"steps": 2, "prompt":')
    )
    exec(small, {})
    image = Image.open(tmp_path / "lighthouse.png")
    assert image.size == (256, 256)
    assert "ToDo: manual" in image.info["parameters"]
