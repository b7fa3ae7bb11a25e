"""Other nodes beside ToDo: the image equals the one that an independent reference makes beside them."""

from __future__ import annotations

import os
import re
from typing import Any

import numpy as np
import pytest

from tests.comfyui.client import HALF, Run, Workflow, finished, node, todo, workflow

NEIGHBOURS = {
    "FreeU V2": node("FreeU_V2", b1=1.3, b2=1.4, s1=0.9, s2=0.2),
    "token merging": node("TomePatchModel", ratio=0.5),
    "DeepShrink": node(
        "PatchModelAddDownscale", block_number=3, downscale_factor=2.0, start_percent=0.0, end_percent=0.6,
        downscale_after_skip=True, downscale_method="bicubic", upscale_method="bicubic",
    ),
    "perturbed attention guidance": node("PerturbedAttentionGuidance", scale=3.0),
    "self-attention guidance": node("SelfAttentionGuidance", scale=0.5, blur_sigma=2.0),
    "NAG": node("NAGuidance", nag_scale=5.0, nag_alpha=0.5, nag_tau=1.5),
    "attention multiply": node("UNetSelfAttentionMultiply", q=1.1, k=1.0, v=0.9, out=1.0),
    "rescaled CFG": node("RescaleCFG", multiplier=0.7),
    "EasyCache": node("EasyCache", reuse_threshold=0.5, start_percent=0.1, end_percent=0.95, verbose=False),
    "LazyCache": node("LazyCache", reuse_threshold=0.5, start_percent=0.1, end_percent=0.95, verbose=False),
    "differential diffusion": node("DifferentialDiffusion", strength=1.0),
    "v-prediction": node("ModelSamplingDiscrete", sampling="v_prediction", zsnr=False),
}  # fmt: skip


SPECTRUM = {
    "ComfyUI-Spectrum-sdxl": node(
        "SpectrumSDXL", w=0.6, m=4, lam=0.1, window_size=3, flex_window=0.75, warmup_steps=5, stop_caching_step=-1
    ),
    "ComfyUI-Spectrum-SDXL-Proper": node(
        "SpectrumApplySDXL", enabled=True, blend_weight=0.5, degree=4, ridge_lambda=0.1, window_size=2.0,
        flex_window=0.75, warmup_steps=5, tail_actual_steps=3, min_fit_points=6, debug=False,
    ),
}  # fmt: skip
"""Nodes of others that forecast what the UNet returns in some steps, by repository."""


def equals_the_reference(comfyui, dense: Workflow, acting: Workflow) -> None:
    alone = comfyui.run(dense)
    assert alone.status == "success", alone
    both = comfyui.run(acting)
    assert both.status == "success", both
    assert comfyui.ask("/todo-probe/left") == []
    assert comfyui.run(dense).sha == alone.sha
    comfyui.probe("reference", factor=2)
    assert both.sha == comfyui.run(dense).sha != alone.sha


@pytest.mark.parametrize("todo_first", [True, False], ids=["after ToDo", "before ToDo"])
@pytest.mark.parametrize("name", NEIGHBOURS)
def test_beside(comfyui, sd1, name, todo_first):
    patches = [HALF, NEIGHBOURS[name]] if todo_first else [NEIGHBOURS[name], HALF]
    dense = workflow(NEIGHBOURS[name], checkpoint=sd1, steps=6)
    equals_the_reference(comfyui, dense, workflow(*patches, checkpoint=sd1, steps=6))


def installed(comfyui, each: dict[str, Any]) -> None:
    """Skips the test if no one has installed such a node."""
    if not comfyui.ask(f"/object_info/{each['class_type']}"):
        pytest.skip(f"{each['class_type']} is not in custom_nodes")


@pytest.mark.parametrize("todo_first", [True, False], ids=["after ToDo", "before ToDo"])
@pytest.mark.parametrize("name", SPECTRUM)
def test_beside_a_forecast(comfyui, sdxl, name, todo_first):
    """ToDo acts in the steps that are computed."""
    forecast = SPECTRUM[name]
    installed(comfyui, forecast)
    patches = [HALF, forecast] if todo_first else [forecast, HALF]
    options = {"checkpoint": sdxl, "steps": 14}
    comfyui.run(workflow(HALF, **options))
    (every,) = comfyui.ask("/todo-probe/log")
    equals_the_reference(comfyui, workflow(forecast, **options), workflow(*patches, **options))
    (some,) = comfyui.ask("/todo-probe/log")
    counts = [re.search(r"in (\d+) of \1 attention calls", line) for line in (some, every)]
    assert 0 < int(counts[0][1]) < int(counts[1][1])


def upscaled(*patches: dict[str, Any], checkpoint: str) -> Workflow:
    """An image that Ultimate SD Upscale draws anew in four tiles."""
    graph = workflow(*patches, checkpoint=checkpoint)
    taken = {name: each for name, each in graph["sampler"]["inputs"].items() if name != "latent_image"}
    graph["image"] = node("EmptyImage", width=512, height=512, batch_size=1, color=0x8040C0)
    graph["sampler"] = node(
        "UltimateSDUpscaleNoUpscale", **{**taken, "denoise": 0.9}, upscaled_image=["image", 0], vae=["checkpoint", 2],
        mode_type="Linear", tile_width=256, tile_height=256, mask_blur=8, tile_padding=32, seam_fix_mode="None",
        seam_fix_denoise=1.0, seam_fix_width=64, seam_fix_mask_blur=8, seam_fix_padding=16, force_uniform_tiles=True,
        tiled_decode=False, batch_size=1,
    )  # fmt: skip
    graph["saved"]["inputs"]["images"] = ["sampler", 0]
    del graph["decoded"]
    return graph


def test_ultimate_sd_upscale(comfyui, sd1):
    """One line for all of its tiles."""
    acting = upscaled(HALF, checkpoint=sd1)
    installed(comfyui, acting["sampler"])
    equals_the_reference(comfyui, upscaled(checkpoint=sd1), acting)
    (line,) = comfyui.ask("/todo-probe/log")
    assert "in 80 of 80 attention calls" in line


@pytest.mark.parametrize("todo_first", [True, False], ids=["after ToDo", "before ToDo"])
def test_what_hypertile_tiles_is_left_whole(comfyui, sd1, todo_first):
    """At its depth of 0 that is the finest level. The levels beneath are downsampled."""
    tiles = node("HyperTile", tile_size=64, swap_size=2, max_depth=0, scale_depth=False)
    everywhere = todo(mode="manual", factor=2.0, deep_factor=2.0, max_downsample="8", phase="fixed")
    patches = [everywhere, tiles] if todo_first else [tiles, everywhere]
    alone = comfyui.run(workflow(tiles, checkpoint=sd1))
    both = comfyui.run(workflow(*patches, checkpoint=sd1))
    (line,) = comfyui.ask("/todo-probe/log")
    finest, *deeper = line.split("; ")
    assert "in 0 of 20 attention calls (left whole: 20 with different batch sizes of keys and queries" in finest
    assert all("in 20 of 20" in level for level in deeper)
    comfyui.probe("reference", factor=2, deep=True)
    assert both.sha == comfyui.run(workflow(tiles, checkpoint=sd1)).sha != alone.sha


@pytest.mark.parametrize(
    "options", [{"lora": "tiny-lora.safetensors"}, {"control": True}], ids=["LoRA", "ControlNet with its encoder"]
)
def test_beside_what_the_loaders_bring(comfyui, sd1, options):
    dense = workflow(checkpoint=sd1, **options)
    equals_the_reference(comfyui, dense, workflow(HALF, checkpoint=sd1, **options))


def test_the_controlnets_encoder_can_stay_dense(comfyui, sd1):
    both = comfyui.run(workflow(HALF, checkpoint=sd1, control=True))
    whole = comfyui.run(workflow(todo(mode="manual", phase="fixed", controlnet=False), checkpoint=sd1, control=True))
    assert both.sha != whole.sha


def custom(graph: Workflow) -> Workflow:
    """The workflow with the nodes of a custom sampler in place of KSampler."""
    taken = graph["sampler"]["inputs"]
    model: dict[str, Any] = {"model": taken["model"]}
    graph["guider"] = node("CFGGuider", **model, positive=taken["positive"], negative=taken["negative"], cfg=5.0)
    graph["sigmas"] = node("BasicScheduler", **model, scheduler="normal", steps=4, denoise=1.0)
    graph["noise"] = node("RandomNoise", noise_seed=1)
    graph["method"] = node("KSamplerSelect", sampler_name="dpmpp_2m")
    graph["sampler"] = node(
        "SamplerCustomAdvanced", noise=["noise", 0], guider=["guider", 0], sampler=["method", 0], sigmas=["sigmas", 0],
        latent_image=taken["latent_image"],
    )  # fmt: skip
    return graph


def test_a_custom_sampler(comfyui, sd1):
    equals_the_reference(comfyui, custom(workflow(checkpoint=sd1)), custom(workflow(HALF, checkpoint=sd1)))


def two_guiding(sd1: str, first: str, second: str) -> Workflow:
    """A guider with two models, each with the node of ToDo or without."""
    graph = custom(workflow(checkpoint=sd1))
    graph["half"] = {**HALF, "inputs": {**HALF["inputs"], "model": ["checkpoint", 0]}}
    about = {name: graph["guider"]["inputs"][name] for name in ("positive", "negative", "cfg")}
    graph["guider"] = node("DualModelGuider", **about, model=[first, 0], model_negative=[second, 0])
    return graph


def test_the_second_model_of_a_guider(comfyui, sd1):
    """Such a guider runs the nodes of its first model alone. The second one's says so."""
    dense = comfyui.run(two_guiding(sd1, "checkpoint", "checkpoint"))
    comfyui.ask("/todo-probe/log")
    assert comfyui.run(two_guiding(sd1, "checkpoint", "half")).sha == dense.sha
    (line,) = comfyui.ask("/todo-probe/log")
    assert "no effect on the second model of a guider" in line


def test_a_guider_with_one_model_twice(comfyui, sd1):
    """The first one's node acts in both, since they share the UNet."""
    equals_the_reference(comfyui, two_guiding(sd1, "checkpoint", "checkpoint"), two_guiding(sd1, "half", "half"))
    (line,) = comfyui.ask("/todo-probe/log")
    assert "in 40 of 40 attention calls" in line


SPLIT = node("ToDoProbeSplit")
"""Half of each step's work on a further GPU, here the same CPU, which has a copy of the UNet."""


@pytest.mark.parametrize("todo_first", [True, False], ids=["after ToDo", "before ToDo"])
@pytest.mark.parametrize("control", [False, True], ids=["", "with a ControlNet"])
def test_several_gpus(comfyui, sd1, todo_first, control):
    """Each GPU's copy is downsampled, and the log counts the calls of all."""
    patches = [HALF, SPLIT] if todo_first else [SPLIT, HALF]
    options = {"checkpoint": sd1, "control": control}
    equals_the_reference(comfyui, workflow(SPLIT, **options), workflow(*patches, **options))
    (line,) = comfyui.ask("/todo-probe/log")
    calls = 56 if control else 40
    assert line == f"ToDo: level 1, 32×32: keys/values 1024 → 256 in {calls} of {calls} attention calls"


def test_several_gpus_are_told_the_step(comfyui, sd1):
    comfyui.run(workflow(todo(mode="manual", start=0.5), SPLIT, checkpoint=sd1))
    (line,) = comfyui.ask("/todo-probe/log")
    assert "in 20 of 40 attention calls (left whole: 20 " in line


def hooked(graph: Workflow) -> Workflow:
    """The workflow with a LoRA that belongs to one conditioning alone."""
    graph["hook"] = node("CreateHookLora", lora_name="tiny-lora.safetensors", strength_model=1.0, strength_clip=0.0)
    graph["of its own"] = node(
        "ConditioningSetProperties", cond_NEW=["positive", 0], strength=1.0, set_cond_area="default", hooks=["hook", 0]
    )
    graph["sampler"]["inputs"]["positive"] = ["of its own", 0]
    return graph


def test_a_lora_of_one_conditioning(comfyui, sd1):
    equals_the_reference(comfyui, hooked(workflow(checkpoint=sd1)), hooked(workflow(HALF, checkpoint=sd1)))


@pytest.mark.skipif(not os.environ.get("COMFYUI_COMPILE"), reason="compiling takes minutes: COMFYUI_COMPILE is not set")
@pytest.mark.parametrize("todo_first", [True, False], ids=["after ToDo", "before ToDo"])
def test_a_compiled_model(comfyui, sd1, todo_first):
    """Whichever ran first, dense or ToDo. Compiled arithmetic differs by a rounding of the image."""
    small = {"checkpoint": sd1, "size": 128, "steps": 2}
    compiled = node("TorchCompileModel", backend="inductor")
    acting = todo(mode="manual")
    dense, thinned = comfyui.run(workflow(**small)), comfyui.run(workflow(acting, **small))

    def distance(run: Run, to: Run) -> int:
        return int(np.abs(run.image.astype(int) - to.image).max())

    assert distance(comfyui.run(workflow(compiled, **small)), dense) <= 1
    for _ in range(2):
        both = comfyui.run(workflow(*([acting, compiled] if todo_first else [compiled, acting]), **small))
        assert distance(both, thinned) <= 1 < distance(both, dense)
    assert distance(comfyui.run(workflow(compiled, **small)), dense) <= 1


def two_models(graph: Workflow, sdxl: str) -> Workflow:
    """A second checkpoint in the same workflow goes on from the first one's latent."""
    graph["other"] = node("CheckpointLoaderSimple", ckpt_name=sdxl)
    patch = next((each for name, each in graph.items() if name.startswith("patch")), None)
    model = ["other", 0]
    if patch:
        graph["other patch"] = {**patch, "inputs": {**patch["inputs"], "model": model}}
        model = ["other patch", 0]
    for text in ("positive", "negative"):
        graph[f"other {text}"] = node("CLIPTextEncode", clip=["other", 1], text=text)
    again = {
        **graph["sampler"]["inputs"], "latent_image": ["sampler", 0], "denoise": 0.5, "model": model,
        "positive": ["other positive", 0], "negative": ["other negative", 0],
    }  # fmt: skip
    graph["sampler again"] = node("KSampler", **again)
    return finished(graph, ["sampler again", 0])


def test_two_models_in_a_workflow(comfyui, sd1, sdxl):
    equals_the_reference(
        comfyui, two_models(workflow(checkpoint=sd1), sdxl), two_models(workflow(HALF, checkpoint=sd1), sdxl)
    )


def test_a_model_without_such_attention_is_left_alone(comfyui, sd1):
    """The probe's node hides the UNet in a module that has none, as a diffusion transformer has none."""
    hidden = node("ToDoProbeHidden")
    dense = comfyui.run(workflow(hidden, checkpoint=sd1))
    assert comfyui.run(workflow(HALF, hidden, checkpoint=sd1)).sha == dense.sha
    (line,) = comfyui.ask("/todo-probe/log")
    assert line.startswith("ToDo: no effect on ")
    assert "ToDo is for SD1/SD2/SDXL" in line
