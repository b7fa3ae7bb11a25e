"""Models that change during a generation, and other kinds of models.

The model changes with a refiner, a hires checkpoint or the checkpoint of a request. Other kinds are SDXL and its
refiner, SD2 with v-prediction, inpainting, instruct-pix2pix, and Flux, on which ToDo has no effect.
"""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image

from tests.host.calls import active, by_size, finest_keys, made
from tests.host.checkpoints import load_another_layout, of_kind
from tests.host.neighbours.neighbour import Payload
from tests.host.webui import HIRES, Result, WebUI, encoded

MANUAL = {"mode": "manual", "factor": 2}


def only_the_finest_downsampled(calls: list[dict[str, Any]]) -> bool:
    """Whether in every UNet call the finest self-attention had a quarter of the keys, and all others had all keys."""
    wanted = []
    for call in calls:
        queries = sorted(map(int, call["keys"]), reverse=True)
        wanted.append({str(count): [count // 4 if count == queries[0] else count] for count in queries})
    return bool(calls) and [call["keys"] for call in calls] == wanted


def masked() -> Payload:
    """The mask of an img2img request, which repaints the right half."""
    mask = Image.new("L", (256, 256))
    mask.paste(255, (128, 0, 256, 256))
    return {"mask": encoded(mask), "inpainting_fill": 1, "inpaint_full_res": False}


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
    sdxl: Payload = {"override_settings": {"sd_model_checkpoint": of_kind(checkpoints, "SDXL")}}
    webui.txt2img([MANUAL], **sdxl)
    calls = made(webui)
    assert {finest_keys(call) for call in calls} == {8 * 8}
    assert only_the_finest_downsampled(calls)
    everywhere = {"mode": "manual", "factor": 5, "deep_factor": 5, "max_downsample": 8}
    webui.txt2img([everywhere], width=72, height=72, **sdxl)
    assert {finest_keys(call) for call in made(webui)} == {1}
    assert webui.txt2img().sha == dense


@pytest.mark.parametrize(("kind", "side"), [("", 512), ("SDXL", 1024)])
def test_the_defaults_act_at_the_trained_size(
    webui: WebUI, checkpoints: list[str], dense: list[str], kind: str, side: int
) -> None:
    chosen: Payload = {"sd_model_checkpoint": of_kind(checkpoints, kind)} if kind else {}
    payload: Payload = {"width": side, "height": side, "steps": 9, "override_settings": chosen}
    result = webui.txt2img([True], **payload)
    assert [finest_keys(call) for call in made(webui)] == [32 * 32] * 9
    assert "ToDo effect" not in result.infotext
    assert webui.txt2img([True], **{**payload, "steps": 8}).infotext.count("ToDo effect: none at this size") == 1
    assert webui.txt2img().sha == dense


def test_sdxl_refiner_of_another_layout(webui: WebUI, checkpoints: list[str], dense: list[str]) -> None:
    if webui.is_neo:
        pytest.skip("Forge Neo's refiner must have the model's layout: others fail with and without ToDo")
    payload: Payload = {
        "override_settings": {"sd_model_checkpoint": of_kind(checkpoints, "SDXL")},
        "refiner_checkpoint": of_kind(checkpoints, "SDXL refiner"),
        "refiner_switch_at": 0.5,
    }
    before = webui.txt2img(**payload)
    made(webui)
    result = webui.txt2img([MANUAL], **payload)
    calls = made(webui)
    assert [len(call["keys"]) for call in calls] == [2, 2, 3, 3], (
        "SDXL has attention at two levels, its refiner at three"
    )
    assert only_the_finest_downsampled(calls)
    assert result.sha != before.sha
    assert webui.txt2img(**payload).sha == before.sha
    assert webui.txt2img().sha == dense


@pytest.mark.parametrize("kind", ["SD2 v-prediction", "inpainting"])
def test_txt2img_with_another_kind(webui: WebUI, checkpoints: list[str], dense: list[str], kind: str) -> None:
    payload: Payload = {"override_settings": {"sd_model_checkpoint": of_kind(checkpoints, kind)}}
    before = webui.txt2img(**payload)
    made(webui)
    result = webui.txt2img([MANUAL], **payload)
    calls = made(webui)
    assert len(calls) == 4
    assert only_the_finest_downsampled(calls)
    assert result.sha != before.sha
    assert webui.txt2img(**payload).sha == before.sha
    assert webui.txt2img().sha == dense


@pytest.mark.parametrize(
    ("kind", "request_of_the_kind", "batch"),
    [
        ("SD2 v-prediction", {}, 2),
        ("inpainting", masked(), 2),
        ("inpainting", {}, 2),
        ("instruct-pix2pix", {"image_cfg_scale": 1.0}, 2),
        ("instruct-pix2pix", {"image_cfg_scale": 1.5}, 3),
    ],
    ids=["SD2", "mask", "inpainting without a mask", "pix2pix", "pix2pix with an image scale"],
)
def test_img2img_with_another_kind(
    webui: WebUI,
    checkpoints: list[str],
    dense: list[str],
    kind: str,
    request_of_the_kind: Payload,
    batch: int,
) -> None:
    override: Payload = {"override_settings": {"sd_model_checkpoint": of_kind(checkpoints, kind)}}
    source = webui.txt2img(seed=11).images[0]

    def generate(todo: list[Any] | None = None) -> Result:
        # The host encodes an image with noise that depends on the previous generation, so this must always be the same.
        webui.txt2img(steps=1)
        made(webui)
        return webui.img2img(source, todo, steps=6, **override, **request_of_the_kind)

    before = generate()
    batches = [call["batch"] for call in made(webui)]
    with_todo = generate([MANUAL])
    calls = made(webui)
    assert [call["batch"] for call in calls] == batches
    # The last call, because Classic omits the negative prompt from the first one, with or without ToDo
    # (sd_samplers_cfg_denoiser.py:126, where the option's value 0, 'disable', includes the first step).
    assert batches[-1] == batch
    assert only_the_finest_downsampled(calls)
    assert with_todo.sha != before.sha
    assert generate().sha == before.sha
    assert webui.txt2img().sha == dense


def test_a_model_without_such_attention_is_left_alone(webui: WebUI, checkpoints: list[str], dense: list[str]) -> None:
    payload: Payload = {
        "cfg_scale": 1,
        "scheduler": "Simple",  # the default takes the numbers of Flux's sigmas on Forge for the sigmas themselves
        "override_settings": {"sd_model_checkpoint": of_kind(checkpoints, "Flux")},
    }
    before = webui.txt2img(**payload)
    webui.get("/todo-probe/log")
    result = webui.txt2img([MANUAL], **payload)
    log = webui.get("/todo-probe/log").json()
    assert result.sha == before.sha
    assert "(ToDo is for SD1/SD2/SDXL)" in result.infotext
    assert len([line for line in log if "ToDo is for SD1/SD2/SDXL" in line]) == 1
    assert webui.txt2img().sha == dense


def test_fp8_storage(webui: WebUI, checkpoints: list[str], dense: list[str]) -> None:
    if not webui.is_a1111 or "fp8_storage" not in webui.get("/sdapi/v1/options").json():
        pytest.skip("this WebUI has no fp8 storage, or another option for it")
    of_kind(checkpoints, "SDXL")  # needed below; skips the test before it changes an option
    webui.http.post("/sdapi/v1/options", json={"fp8_storage": "Enable"})
    try:
        before = webui.txt2img()
        made(webui)
        result = webui.txt2img([MANUAL])
        calls = made(webui)
        after = webui.txt2img()
    finally:
        webui.http.post("/sdapi/v1/options", json={"fp8_storage": "Disable"})
        # With the weights, the host converts the noise schedule to half precision, and never back, with or without ToDo
        # (sd_models.py of 1.10, `model.half()` before it loads weights).
        load_another_layout(webui, checkpoints)
        webui.txt2img(steps=1)
    assert before.sha != dense, "the host uses fp8"
    assert only_the_finest_downsampled(calls)
    assert result.sha != before.sha
    assert after.sha == before.sha
    assert webui.txt2img().sha == dense
