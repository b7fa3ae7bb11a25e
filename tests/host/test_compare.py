"""Compare in a running WebUI: complete generations one after the other, and a comparison image after the images."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from skimage.metrics import peak_signal_noise_ratio

from tests.host.calls import active, made
from tests.host.neighbours.builtin_a1111 import network
from tests.host.webui import ARTIFACTS, HIRES, Result, WebUI, encoded

MANUAL = {"mode": "manual", "factor": 2}
COMPARE = {**MANUAL, "compare": True}
SETTINGS = {**MANUAL, "compare": "settings"}
OTHERS = (1.5, 3, 4)
"""The ratios that are tried beside that of MANUAL, in the order of the runs, after dense."""


def assert_compared(compared: Result, alone: Result, dense: Result) -> None:
    """The images are the same as without comparing. The sheet shows them and the dense ones, a row for each pair."""
    *images, sheet = compared.sha
    assert images == alone.sha
    assert sheet not in alone.sha
    drawn = np.asarray(compared.images[-1])
    for panel in (*alone.images[-1:], *dense.images[-1:]):
        assert holds(drawn, np.asarray(panel))


def holds(whole: np.ndarray, part: np.ndarray) -> bool:
    height, width = part.shape[:2]
    corner = whole[: whole.shape[0] - height + 1, : whole.shape[1] - width + 1]
    found = np.argwhere((corner == part[0, 0]).all(2))
    return any(np.array_equal(whole[top : top + height, left : left + width], part) for top, left in found)


@pytest.mark.parametrize(
    "payload",
    [{}, HIRES, {"sampler_name": "Heun"}, {"batch_size": 2, "n_iter": 2}, {"width": 520, "height": 392}],
    ids=["plain", "hires", "Heun", "batch", "odd"],
)
def test_txt2img(webui: WebUI, payload: dict[str, Any]) -> None:
    assert_compared(webui.txt2img([COMPARE], **payload), webui.txt2img([MANUAL], **payload), webui.txt2img(**payload))


def test_a_lora(webui: WebUI) -> None:
    payload = network("lora")(webui)
    assert_compared(webui.txt2img([COMPARE], **payload), webui.txt2img([MANUAL], **payload), webui.txt2img(**payload))


def test_a_refiner(webui: WebUI, other: str) -> None:
    payload = {"refiner_checkpoint": other, "refiner_switch_at": 0.5}
    assert_compared(webui.txt2img([COMPARE], **payload), webui.txt2img([MANUAL], **payload), webui.txt2img(**payload))


@pytest.mark.parametrize("area", [{}, {"inpainting_fill": 1, "inpaint_full_res": True}], ids=["whole", "masked only"])
def test_inpainting(webui: WebUI, area: dict[str, Any]) -> None:
    source = webui.txt2img().images[0]
    mask = Image.new("L", source.size)
    ImageDraw.Draw(mask).rectangle((60, 60, 180, 180), fill=255)
    payload = {"mask": encoded(mask), **area}
    results = []
    for todo in ([COMPARE], [MANUAL], None):
        webui.txt2img()  # the host's encoder uses noise that depends on the previous generation
        results.append(webui.img2img(source, todo, **payload))
    assert_compared(*results)


def test_a_sheet_to_look_at(webui: WebUI) -> None:
    """The image in docs/guide.md."""
    sheet = webui.txt2img([COMPARE], width=512, height=512).images[-1]
    ARTIFACTS.mkdir(exist_ok=True)
    sheet.save(ARTIFACTS / "host-compare.png")
    assert sheet.width > 3 * 512


def test_todo_is_on_in_the_first_half_alone(webui: WebUI) -> None:
    webui.txt2img([COMPARE])
    assert active(made(webui)) == [True] * 4 + [False] * 4


def test_a_request_as_a_list(webui: WebUI) -> None:
    values = [True, "manual", 64, 2, 1, 1, "nearest", "cycle", 0, 1, False, "both", 0, True, True]
    assert len(webui.txt2img(values).images) == 2


@pytest.mark.parametrize("half", [0, 1], ids=["with ToDo", "dense"])
def test_interrupted_in_either_half(webui: WebUI, half: int) -> None:
    steps = 12
    results: list[Result] = []
    work = threading.Thread(target=lambda: results.append(webui.txt2img([COMPARE], steps=steps)))
    work.start()
    other = WebUI(webui.url)
    while other.get("/sdapi/v1/progress").json()["progress"] < 0.1 + 0.5 * half:
        assert work.is_alive()
        time.sleep(0.05)
    other.post("interrupt")
    work.join()
    (result,) = results
    assert len(result.images) == 1
    assert len(made(webui)) < (1 + half) * steps
    assert "interrupted" in webui.get("/todo-probe/log").json()[-1]
    if half:
        assert result.sha == webui.txt2img([MANUAL], steps=steps).sha


def assert_settings_compared(webui: WebUI, **payload: Any) -> Result:
    """Every image is the one that its own settings make alone, with that image's infotext; then one sheet."""
    compared = webui.txt2img([SETTINGS], **payload)
    first, *others = (
        webui.txt2img(each and [each], **payload)
        for each in (MANUAL, None, *({**MANUAL, "factor": factor} for factor in OTHERS))
    )
    grid = first.info["index_of_first_image"]
    assert compared.sha[:-1] == [*first.sha, *(sha for each in others for sha in each.sha[grid:])]
    texts = [*first.infotexts, *(text for each in others for text in each.infotexts[grid:])]
    assert [without_version(text) for text in compared.infotexts[:-1]] == [without_version(text) for text in texts]
    return compared


def without_version(infotext: str) -> str:
    return infotext.split(", Version: ")[0]


@pytest.mark.parametrize("payload", [{}, HIRES, {"batch_size": 2, "n_iter": 2}], ids=["plain", "hires", "batch"])
def test_with_neighbouring_settings(webui: WebUI, payload: dict[str, Any]) -> None:
    compared = assert_settings_compared(webui, **payload)
    figures = compared.info["extra_generation_params"]["ToDo compare"]
    assert [each["settings"] and each["settings"]["factor"] for each in figures] == [2, None, *OTHERS]
    for column in (figures[0], *figures[2:]):
        for dense, image in zip(figures[1]["images"], column["images"], strict=True):
            expected, made = (np.asarray(compared.images[each["index"]].convert("RGB")) for each in (dense, image))
            assert image["psnr"] == pytest.approx(peak_signal_noise_ratio(expected, made), abs=0.01)


def test_with_neighbouring_settings_and_a_lora(webui: WebUI) -> None:
    assert_settings_compared(webui, **network("lora")(webui))


def test_with_neighbouring_settings_and_a_refiner(webui: WebUI, other: str) -> None:
    assert_settings_compared(webui, refiner_checkpoint=other, refiner_switch_at=0.5)


def test_with_neighbouring_settings_in_img2img(webui: WebUI) -> None:
    source = webui.txt2img().images[0]
    results = []
    for todo in ([SETTINGS], [MANUAL]):
        webui.txt2img()  # the host's encoder uses noise that depends on the previous generation
        results.append(webui.img2img(source, todo))
    compared, alone = results
    assert compared.sha[0] == alone.sha[0]
    assert len(set(compared.sha)) == 1 + 1 + len(OTHERS) + 1


@pytest.mark.parametrize("run", [1, 3])
def test_interrupted_in_a_later_run(webui: WebUI, run: int) -> None:
    """What is complete is kept. One click ends all the rest."""
    steps, runs = 12, 5
    results: list[Result] = []
    work = threading.Thread(target=lambda: results.append(webui.txt2img([SETTINGS], steps=steps)))
    work.start()
    other = WebUI(webui.url)
    said = ""
    while f"({run + 1} of {runs})" not in said:
        assert work.is_alive()
        time.sleep(0.05)
        said = other.get("/sdapi/v1/progress").json()["textinfo"] or ""
    assert said.startswith("Compare: ")
    other.post("interrupt")
    work.join()
    (result,) = results
    assert len(result.images) == (run + 1 if run > 1 else 1)
    assert len(made(webui)) <= (run + 1) * steps
    assert "interrupted" in webui.get("/todo-probe/log").json()[-1]
    if run > 1:
        assert len(result.info["extra_generation_params"]["ToDo compare"]) == run


def test_a_sheet_of_settings_to_look_at(webui: WebUI) -> None:
    ARTIFACTS.mkdir(exist_ok=True)
    payload = {"compare": "settings", "grid": 32}
    sheet = webui.txt2img([payload], width=640, height=512, steps=9).images[-1]  # fewer have no effect here
    sheet.save(ARTIFACTS / "host-compare-settings.png")
    assert sheet.width > 5 * 500


def test_a_dense_half_that_fails_leaves_the_image(webui: WebUI) -> None:
    alone = webui.txt2img([MANUAL])
    made(webui)
    webui.http.post("/todo-probe/fail", params={"at": 6})
    assert webui.txt2img([COMPARE]).sha == alone.sha
    assert "the probe fails here as requested" in webui.get("/todo-probe/log").json()[-1]
    assert len(webui.txt2img([COMPARE]).images) == 2
