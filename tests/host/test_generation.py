"""ToDo in a running WebUI: the keys that self-attention received, and the resulting images."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from math import ceil
from typing import Any

import pytest

from tests.host.calls import active, by_size, finest_keys, made
from tests.host.webui import HIRES, Result, WebUI

MANUAL = {"mode": "manual", "factor": 2}


@pytest.fixture
def unseeded(webui: WebUI) -> Iterator[None]:
    """Leaves noise for which the host has no seed to chance, as in a host without the probe."""
    webui.http.post("/todo-probe/seed", params={"on": False})
    yield
    webui.http.post("/todo-probe/seed", params={"on": True})


@pytest.mark.usefixtures("unseeded")
def test_off_equals_the_host_without_the_extension(webui: WebUI, plain: WebUI) -> None:
    for payload in ({}, HIRES, {"width": 520, "height": 392, "batch_size": 2}):
        assert webui.txt2img(**payload).sha == plain.txt2img(**payload).sha
    # The host encodes an image with noise that depends on the previous generation, so both must have had the same one.
    source = plain.txt2img().images[0]
    webui.txt2img()
    if not webui.is_ersatz:  # which draws that noise anew in each process
        assert webui.img2img(source).sha == plain.img2img(source).sha
    assert webui.txt2img([False, "manual", 16, 4.0]).sha == plain.txt2img().sha


def test_off_writes_nothing(webui: WebUI) -> None:
    assert "ToDo" not in webui.txt2img().infotext
    assert "ToDo" not in webui.txt2img([{"enabled": False, "factor": 4}]).infotext


def test_on_changes_the_image_and_the_tokens(webui: WebUI, dense: list[str]) -> None:
    result = webui.txt2img([MANUAL])
    calls = made(webui)
    assert result.sha != dense
    assert [finest_keys(call) for call in calls] == [16 * 16] * 4
    assert all(call["keys"]["256"] == [256] for call in calls), "deeper levels are whole"
    assert "ToDo: manual" in result.infotext
    assert webui.txt2img([MANUAL]).sha == result.sha, "the same request gives the same image"
    assert webui.txt2img().sha == dense


def test_positional_list(webui: WebUI) -> None:
    assert webui.txt2img([True, "manual", 64, 2]).sha == webui.txt2img([MANUAL]).sha


@pytest.mark.parametrize(("width", "height"), [(520, 776), (1000, 616)])
def test_odd_latents(webui: WebUI, width: int, height: int) -> None:
    result = webui.txt2img([{**MANUAL, "factor": 3}], width=width, height=height, steps=2)
    width, height = result.images[0].size  # some hosts round the size
    calls = made(webui)
    assert [call["latent"] for call in calls] == [[height // 8, width // 8]] * 2
    assert {finest_keys(call) for call in calls} == {ceil(height // 8 / 3) * ceil(width // 8 / 3)}


def test_auto_keeps_the_grid(webui: WebUI) -> None:
    webui.txt2img([{"grid": 16, "max_downsample": 2}])
    for call in made(webui):
        assert call["keys"]["1024"] == [256]
        assert call["keys"]["256"] == [64]


@pytest.mark.parametrize(
    ("settings", "first", "second"),
    [
        ({"passes": "both"}, [True] * 4, [True] * 4),
        ({"passes": "first"}, [True] * 4, [False] * 4),
        ({"passes": "hires"}, [False] * 4, [True] * 4),
        ({"end": 0.5}, [True, True, False, False], [True, True, False, False]),
        ({"start": 0.5}, [False, False, True, True], [False, False, True, True]),
        ({"hires_factor": 1}, [True] * 4, [False] * 4),
    ],
)
def test_hires_window_in_each_pass(
    webui: WebUI, settings: dict[str, Any], first: list[bool], second: list[bool]
) -> None:
    webui.txt2img([{**MANUAL, **settings}], **HIRES, hr_second_pass_steps=4)
    low, high = by_size(made(webui))
    assert active(low) == first
    # The denoising strength decides how many steps of the hires pass the host runs, plus one.
    if settings.get("start") or settings.get("end"):
        expected = [step / len(high) >= 0.5 for step in range(len(high))]
        assert active(high) == (expected if settings.get("start") else [not late for late in expected])
    else:
        assert set(active(high)) == set(second)


@pytest.mark.parametrize("sampler", ["Heun", "DPM2", "DPM2 a", "DPM++ SDE", "DPM++ 2S a", "Restart"])
def test_second_order_samplers_stop_at_half(webui: WebUI, sampler: str) -> None:
    if sampler not in webui.samplers:
        pytest.skip(f"this WebUI has no sampler {sampler}")
    webui.txt2img([{**MANUAL, "end": 0.5}], sampler_name=sampler)
    on = active(made(webui))
    assert len(on) >= 7, "two calls a step, but for the last"
    assert on == [True] * 4 + [False] * (len(on) - 4)


def test_ratios_beyond_a_small_image(webui: WebUI) -> None:
    everywhere = {"mode": "manual", "factor": 5, "deep_factor": 5, "max_downsample": 8}
    for side in (64, 72, 200):
        webui.txt2img([everywhere], width=side, height=64)
        assert all(finest_keys(call) == ceil(side // 8 / 5) * 2 for call in made(webui))


def test_conditional_and_unconditional_calls_apart(webui: WebUI) -> None:
    if not webui.is_a1111:
        pytest.skip("the Forge family has no option for this; it splits the batch when memory is short")
    together = webui.txt2img([{**MANUAL, "end": 0.5}])
    made(webui)
    # Not by override_settings: the host does not restore an option that is missing in its config file.
    webui.http.post("/sdapi/v1/options", json={"batch_cond_uncond": False})
    try:
        apart = webui.txt2img([{**MANUAL, "end": 0.5}])
    finally:
        webui.http.post("/sdapi/v1/options", json={"batch_cond_uncond": True})
    calls = made(webui)
    assert [call["batch"] for call in calls] == [1] * 8
    assert active(calls) == [True] * 4 + [False] * 4
    assert largest_difference(together, apart) <= 2, "both calls of a step keep the same tokens"


def test_batch_size_and_count(webui: WebUI, dense: list[str]) -> None:
    result = webui.txt2img([MANUAL], batch_size=2, n_iter=2)
    calls = made(webui)
    assert len(calls) == 8
    assert all(active(calls))
    assert len(set(result.sha)) == len(result.images)
    single = webui.txt2img([MANUAL])
    assert largest_difference(result, single) <= 2


def test_img2img_counts_the_steps_that_run(webui: WebUI) -> None:
    source = webui.txt2img().images[0]
    made(webui)
    plain = webui.img2img(source, steps=8)
    made(webui)
    result = webui.img2img(source, [{**MANUAL, "end": 0.5}], steps=8)
    on = active(made(webui))
    assert result.sha != plain.sha
    assert on == [step / len(on) < 0.5 for step in range(len(on))]


def test_interrupt_then_off(webui: WebUI, dense: list[str]) -> None:
    answers: list[Result] = []
    thread = threading.Thread(target=lambda: answers.append(webui.txt2img([MANUAL], steps=60)))
    thread.start()
    while webui.get("/sdapi/v1/progress").json()["state"]["sampling_step"] < 2:
        time.sleep(0.1)
    webui.http.post("/sdapi/v1/interrupt")
    thread.join()
    calls = made(webui)
    assert 0 < len(calls) < 60
    assert answers[0].images
    assert webui.get("/todo-probe/left").json() == []
    assert webui.txt2img().sha == dense


def test_failure_in_sampling_leaves_nothing(webui: WebUI, dense: list[str]) -> None:
    webui.http.post("/todo-probe/fail", params={"at": 6})
    webui.txt2img()
    assert webui.post("txt2img", [MANUAL]).status_code == 500
    assert webui.get("/todo-probe/left").json() == []
    assert webui.txt2img().sha == dense


def test_generation_within_a_generation(webui: WebUI) -> None:
    webui.http.post("/todo-probe/inner")
    webui.txt2img([MANUAL], n_iter=2)
    on = active(made(webui))
    inner = len(on) - 8
    assert inner > 0
    assert on == [True] * 4 + [False] * inner + [True] * 4


def test_no_effect_is_said(webui: WebUI, dense: list[str]) -> None:
    result = webui.txt2img([True])
    assert result.sha == dense
    assert "ToDo effect: none at this size in so few steps" in result.infotext


def test_end_of_window_before_its_start(webui: WebUI, dense: list[str]) -> None:
    result = webui.txt2img([{"start": 0.6, "end": 0.4}])
    assert result.sha == dense
    assert "ToDo error" in result.infotext


def largest_difference(one: Result, other: Result) -> int:
    """The largest difference of a channel between the first images of two results."""
    first, second = (result.images[0].convert("RGB").tobytes() for result in (one, other))
    return max(abs(a - b) for a, b in zip(first, second, strict=True))
