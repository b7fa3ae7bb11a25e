"""Compare under the scripts that the host brings: they get the images of their generations, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from tests.host.plot import axis_labels, plot
from tests.host.webui import HIRES, Result, WebUI

MANUAL = {"mode": "manual", "factor": 2}
INSPECTED = {"width": 320, "height": 256, "steps": 2}
SCRIPTS: dict[str, tuple[str, list[Any], dict[str, Any]]] = {
    "prompt matrix": ("txt2img", [False, False, "positive", "comma", 0], {"prompt": "a cat|red|blue"}),
    "prompts from file or textbox": ("txt2img", [False, False, "start", "a cat\na dog"], {}),
    "custom code": ("txt2img", ["from modules import processing\nreturn processing.process_images(p)", 2], {}),
    "loopback": ("img2img", [3, 0.4, "Linear", "None"], {}),
    "sd upscale": ("img2img", ["", 64, "None", 2], {}),
    "poor man's outpainting": ("img2img", [64, 4, "fill", ["left", "up"]], {}),
    "outpainting mk2": ("img2img", ["", 128, 8, ["left", "down"], 1.0, 0.05], {}),
    "img2img alternative test": (
        "img2img", ["", True, True, "a cat", "", True, 2, True, 1.0, 0.0, False], {"denoising_strength": 1.0},
    ),
}  # fmt: skip
"""The tab, the script's arguments, and what else is in the request."""


def made(webui: WebUI, tab: str, todo: dict[str, Any], payload: dict[str, Any]) -> Result:
    payload = {**INSPECTED, **payload}
    source = webui.txt2img(**INSPECTED).images[-1]  # also resets the noise of the host's encoder
    return webui.txt2img([todo], **payload) if tab == "txt2img" else webui.img2img(source, [todo], **payload)


def assert_untouched(webui: WebUI, tab: str, payload: dict[str, Any], compare: Any) -> None:
    alone = made(webui, tab, MANUAL, payload)
    webui.get("/todo-probe/log")
    compared = made(webui, tab, {**MANUAL, "compare": compare}, payload)
    assert compared.sha == alone.sha
    assert len(compared.infotexts) == len(alone.infotexts)
    notes = [line for line in webui.get("/todo-probe/log").json() if "Compare" in line]
    assert len(notes) == 1
    assert "nothing is compared where" in notes[0]


@pytest.mark.parametrize("compare", [True, "settings"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_gets_its_images_alone(webui: WebUI, name: str, compare: Any) -> None:
    if name not in webui.scripts:
        pytest.skip(f"this WebUI has no script {name!r}, or needs an option for it")
    if name == "img2img alternative test" and webui.is_forge:
        pytest.skip("Forge fails at this script without ToDo, too: its model has no parameterization")
    tab, arguments, payload = SCRIPTS[name]
    if name == "sd upscale" and webui.is_neo:
        arguments = [64, "None", 2.0, False]  # without the text, and whether to override the size
    assert_untouched(webui, tab, {"script_name": name, "script_args": arguments, **payload}, compare)


@pytest.mark.parametrize("compare", [True, "settings"])
@pytest.mark.parametrize(
    ("axis", "values"), [("Steps", "2,3"), ("[ToDo] Downsample ratio (per side)", "1,2,3")], ids=["the host's", "ours"]
)
def test_a_plot_gets_its_images_alone(webui: WebUI, axis: str, values: str, compare: Any) -> None:
    label = next(label for label in axis_labels(webui) if label == axis)
    assert_untouched(webui, "txt2img", plot(webui, label, values), compare)


def test_a_script_with_hires_fix_and_batches(webui: WebUI) -> None:
    matrix = {"script_name": "prompt matrix", "script_args": SCRIPTS["prompt matrix"][1], "prompt": "a cat|red"}
    assert_untouched(webui, "txt2img", {**matrix, **HIRES, "batch_size": 2}, True)
