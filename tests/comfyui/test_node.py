"""The node on its own: it acts, says so, and leaves nothing."""

from __future__ import annotations

import time

import numpy as np
import pytest

from tests.comfyui.client import DEFAULTS, HALF, NODE, OLDER, ComfyUI, Workflow, finished, node, todo, workflow
from todo.settings import KNOBS, Settings

NO_EFFECT = "ToDo: no effect"


def keys(calls: list[dict]) -> list[int]:
    """The number of keys at the finest level, call by call."""
    return [kept for call in calls for kept in call["keys"][max(call["keys"], key=int)]]


both_kinds = pytest.mark.parametrize("kind", [NODE, OLDER], ids=["today's", "older"])
"""The node with ComfyUI's present interface, and with that of a ComfyUI which does not have it."""


@both_kinds
def test_the_node_has_the_knobs_of_the_table(comfyui, kind):
    inputs = comfyui.ask(f"/object_info/{kind}")[kind]["input"]["required"]
    assert list(inputs) == ["model", *DEFAULTS]
    assert {name for name, knob in KNOBS.items() if knob.place == "hires"} == set(KNOBS) - set(inputs)
    for name in DEFAULTS:
        kind, options = inputs[name]
        knob = KNOBS[name]
        assert (options["display_name"], knob.parse(options["default"])) == (knob.label, knob.default)
        assert options["advanced"] == (name in ("method", "phase", "taper", "controlnet"))
        assert knob.help in options["tooltip"]
        if choices := options.get("options", kind if isinstance(kind, list) else None):
            assert [knob.parse(choice) for choice in choices] == list(knob.choices)
        elif kind != "BOOLEAN":
            assert (options["min"], options["max"]) == (knob.minimum, knob.maximum)


def test_it_is_found_where_nodes_of_its_kind_are(comfyui):
    described = comfyui.ask(f"/object_info/{NODE}")[NODE]
    assert described["category"] == comfyui.ask("/object_info/HyperTile")["HyperTile"]["category"]
    assert described["display_name"] == "ToDo · Token Downsampling"
    assert "token merging" in described["search_aliases"]


def test_the_older_node_makes_the_same_image(comfyui, sd1):
    values = HALF["inputs"]
    assert comfyui.run(workflow(todo(OLDER, **values), checkpoint=sd1)).sha == (
        comfyui.run(workflow(HALF, checkpoint=sd1)).sha
    )


def test_its_defaults_are_those_of_the_settings():
    assert Settings(**DEFAULTS) == Settings()


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m_sde", "uni_pc"])
def test_an_image_equals_that_of_an_independent_reference(comfyui, sd1, sampler):
    dense = comfyui.run(workflow(checkpoint=sd1, sampler_name=sampler))
    acting = comfyui.run(workflow(HALF, checkpoint=sd1, sampler_name=sampler))
    comfyui.probe("reference", factor=2)
    reference = comfyui.run(workflow(checkpoint=sd1, sampler_name=sampler))
    assert acting.sha == reference.sha != dense.sha


def test_sdxl_too(comfyui, sdxl):
    dense = comfyui.run(workflow(checkpoint=sdxl))
    acting = comfyui.run(workflow(HALF, checkpoint=sdxl))
    comfyui.probe("reference", factor=2)
    assert acting.sha == comfyui.run(workflow(checkpoint=sdxl)).sha != dense.sha


def test_an_odd_size(comfyui, sd1):
    graph = workflow(todo(grid=16), checkpoint=sd1)
    graph["latent"] = node("EmptyLatentImage", width=328, height=200, batch_size=2)
    assert comfyui.run(graph).status == "success"
    (line,) = comfyui.ask("/todo-probe/log")
    assert "level 1, 41×25: keys/values 1025 → 273 in" in line


def test_without_the_node_images_are_as_before(comfyui, sd1):
    before = comfyui.run(workflow(checkpoint=sd1))
    assert comfyui.run(workflow(todo(grid=16), checkpoint=sd1)).sha != before.sha
    assert comfyui.run(workflow(checkpoint=sd1)).sha == before.sha
    assert len(comfyui.ask("/todo-probe/log")) == 1


def test_it_says_what_it_did(comfyui, sd1):
    comfyui.run(workflow(todo(grid=16), checkpoint=sd1))
    (line,) = comfyui.ask("/todo-probe/log")
    assert line.startswith("ToDo: level 1, 32×32: keys/values 1024 → 256 in 20 of 20 attention calls; level 2, 16×16")


def test_it_says_why_it_did_nothing(comfyui, sd1):
    dense = comfyui.run(workflow(checkpoint=sd1))
    assert comfyui.run(workflow(todo(), checkpoint=sd1)).sha == dense.sha
    assert comfyui.ask("/todo-probe/log") == [
        "ToDo: no effect at this size in so few steps (it acts from about 640×640 on)"
    ]


def test_it_never_waits_for_the_gpu(comfyui, sd1):
    """It reads no value of a tensor that a run without it does not read, such as a step's sigma."""
    counted = node("ToDoProbeReads")

    def reads(*patches):
        graph = workflow(*patches, checkpoint=sd1, sampler_name="dpmpp_2m")  # which itself reads sigmas
        comfyui.run(graph)  # the first run may prepare something
        comfyui.ask("/todo-probe/read")
        assert comfyui.run(graph).status == "success"
        return comfyui.ask("/todo-probe/read")

    dense = reads(counted)
    assert dense
    for patch in (todo(mode="manual"), todo(mode="manual", start=0.3, taper=True), todo(grid=16)):
        assert reads(patch, counted) == reads(counted, patch) == dense


def test_the_phase_moves_from_step_to_step(comfyui, sd1):
    moving = comfyui.run(workflow(todo(mode="manual"), checkpoint=sd1))
    assert moving.sha != comfyui.run(workflow(HALF, checkpoint=sd1)).sha
    assert comfyui.run(workflow(todo(mode="manual"), checkpoint=sd1)).sha == moving.sha


@pytest.mark.parametrize(
    ("steps", "kind", "expected"),
    [
        ((0, 10000), "KSampler", [1024, 1024, 256, 256]),
        ((2, 6), "KSamplerAdvanced", [1024, 1024, 256, 256]),
        ((0, 4), "KSamplerAdvanced", [1024, 1024, 256, 256]),
    ],
)
def test_the_window_is_of_the_samplers_own_run(comfyui, sd1, steps, kind, expected):
    graph = workflow(todo(mode="manual", start=0.5), checkpoint=sd1)
    if kind == "KSamplerAdvanced":
        taken = graph["sampler"]["inputs"]
        kept = {
            name: taken[name]
            for name in ("model", "positive", "negative", "latent_image", "cfg", "sampler_name", "scheduler")
        }
        graph["sampler"] = node(
            kind, **kept, add_noise="enable", noise_seed=1, steps=8, start_at_step=steps[0], end_at_step=steps[1],
            return_with_leftover_noise="enable",
        )  # fmt: skip
    comfyui.run(workflow(checkpoint=sd1, steps=1))  # so that the UNet is in memory
    comfyui.ask("/todo-probe/calls")
    assert comfyui.run(graph).status == "success"
    assert keys(comfyui.ask("/todo-probe/calls")) == expected


def test_image_to_image_at_low_denoise(comfyui, sd1):
    comfyui.run(workflow(checkpoint=sd1, steps=1))
    comfyui.ask("/todo-probe/calls")
    comfyui.run(workflow(todo(mode="manual", end=0.5), checkpoint=sd1, denoise=0.5))
    assert keys(comfyui.ask("/todo-probe/calls")) == [256, 256, 1024, 1024]


def two_samplers(sd1: str, second: list) -> Workflow:
    """A second sampler, at twice the size, that goes on from the first one's latent."""
    graph = workflow(todo(grid=16), checkpoint=sd1)
    graph["larger"] = node("LatentUpscale", samples=["sampler", 0], upscale_method="nearest-exact", width=512,
                           height=512, crop="disabled")  # fmt: skip
    again = {**graph["sampler"]["inputs"], "latent_image": ["larger", 0], "denoise": 0.5, "model": second}
    graph["sampler again"] = node("KSampler", **again)
    return finished(graph, ["sampler again", 0])


def test_two_samplers_with_the_node(comfyui, sd1):
    assert comfyui.run(two_samplers(sd1, ["patch 0", 0])).status == "success"
    first, second = comfyui.ask("/todo-probe/log")
    assert "level 1, 32×32" in first
    assert "level 1, 64×64: keys/values 4096 → 484" in second, "in 4 steps a third more per side is kept"


def test_a_second_sampler_without_it_is_dense(comfyui, sd1):
    comfyui.run(workflow(checkpoint=sd1, steps=1))
    comfyui.ask("/todo-probe/calls")
    comfyui.run(two_samplers(sd1, ["checkpoint", 0]))
    assert keys(comfyui.ask("/todo-probe/calls")) == [256] * 4 + [4096] * 4
    assert len(comfyui.ask("/todo-probe/log")) == 1


def test_the_last_of_several_nodes_counts(comfyui, sd1):
    last = comfyui.run(workflow(todo(grid=16), todo(mode="manual", factor=2.0), checkpoint=sd1))
    assert last.sha == comfyui.run(workflow(todo(mode="manual", factor=2.0), checkpoint=sd1)).sha


def tiled(graph: Workflow, tiles: int = 3) -> Workflow:
    """The workflow with a node that runs its sampler for each tile."""
    graph["sampler"] = node("ToDoProbeTiledSampler", **graph["sampler"]["inputs"], tiles=tiles)
    return graph


def test_the_tiles_of_an_image_have_one_line(comfyui, sd1):
    assert comfyui.run(tiled(workflow(HALF, checkpoint=sd1))).status == "success"
    (line,) = comfyui.ask("/todo-probe/log")
    assert line == "ToDo: level 1, 32×32: keys/values 1024 → 256 in 60 of 60 attention calls"
    comfyui.run(tiled(workflow(todo(), checkpoint=sd1)))
    (line,) = comfyui.ask("/todo-probe/log")
    assert line.startswith(NO_EFFECT)
    comfyui.run(tiled(workflow(HALF, checkpoint=sd1), tiles=1))
    (line,) = comfyui.ask("/todo-probe/log")
    assert "in 20 of 20" in line, "what was said is not said again"


def test_of_tiles_that_fail_those_before_count(comfyui, sd1):
    comfyui.run(workflow(checkpoint=sd1, steps=1))
    comfyui.ask("/todo-probe/calls")
    comfyui.probe("fail", at=6)
    assert comfyui.run(tiled(workflow(HALF, checkpoint=sd1))).status == "error"
    (line,) = comfyui.ask("/todo-probe/log")
    assert "in 25 of 25 attention calls" in line


WRONG = {
    "start after end": ({"start": 0.8, "end": 0.2}, "Steps: from 0.8 is after Steps: to 0.2"),
    "too much": ({"end": 1.5}, "Steps: to 1.5 is not allowed; it must be a number from 0 to 1"),
    "no choice": ({"method": "best"}, "Method: 'best' is not allowed; it must be one of nearest, nearest-exact"),
    "two": ({"grid": 500, "start": 0.8, "end": 0.2}, "Keys/values kept per side: 500 is not allowed"),
}


@both_kinds
@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_value_is_refused_once_before_anything_is_computed(comfyui, sd1, kind, wrong):
    values, message = WRONG[wrong]
    run = comfyui.run(workflow(todo(kind, **values), checkpoint=sd1))
    assert run.status == "rejected"
    (error,) = run.errors
    assert error.startswith(message)


@both_kinds
def test_a_wrong_value_through_a_link_is_told_and_the_image_is_made(comfyui, sd1, kind):
    graph = workflow(todo(kind, end=0.2), checkpoint=sd1)
    graph["number"] = node("PrimitiveFloat", value=0.8)
    graph["patch 0"]["inputs"]["start"] = ["number", 0]
    assert comfyui.run(graph).sha == comfyui.run(workflow(checkpoint=sd1)).sha
    (line,) = comfyui.ask("/todo-probe/log")
    assert line.startswith("ToDo error: Steps: from 0.8 is after Steps: to 0.2")


@both_kinds
def test_the_mode_can_come_through_a_link(comfyui, sd1, kind):
    graph = workflow(todo(kind, factor=2.0, phase="fixed"), checkpoint=sd1)
    graph["word"] = node("PrimitiveString", value="manual")
    graph["switch"] = node("ComfySwitchNode", switch=True, on_true=["word", 0], on_false=["word", 0])
    graph["patch 0"]["inputs"]["mode"] = ["switch", 0]
    assert comfyui.run(graph).sha == comfyui.run(workflow(HALF, checkpoint=sd1)).sha


def test_nothing_is_left_after_an_error(comfyui, sd1):
    comfyui.run(workflow(checkpoint=sd1, steps=1))
    comfyui.ask("/todo-probe/calls")
    comfyui.probe("fail", at=2)
    run = comfyui.run(workflow(todo(grid=16), checkpoint=sd1))
    assert run.status == "error"
    assert comfyui.ask("/todo-probe/left") == []
    (line,) = comfyui.ask("/todo-probe/log")
    assert "in 5 of 5 attention calls" in line


def test_nothing_is_left_after_an_interrupt(comfyui: ComfyUI, sd1):
    prompt = comfyui.submit(workflow(todo(grid=16), checkpoint=sd1, steps=200)).json()["prompt_id"]
    while len(comfyui.ask("/todo-probe/left")) == 0:
        time.sleep(0.05)
    comfyui.http.post("/interrupt")
    assert comfyui.result(prompt).errors
    assert comfyui.ask("/todo-probe/left") == []
    (line,) = comfyui.ask("/todo-probe/log")
    assert "attention calls" in line


def test_images_are_no_noise(comfyui, sd1):
    """So that equal images mean something."""
    image = comfyui.run(workflow(checkpoint=sd1)).image
    assert image is not None
    assert np.std(image) > 5
