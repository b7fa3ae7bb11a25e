"""Extensions of A1111. The host must have their repositories in its `extensions` folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.host.neighbours.controlnet_a1111 import RESIDUAL, units
from tests.host.neighbours.forge_family import CONTROLNET, WIDE, always_on
from tests.host.neighbours.neighbour import DENSE, Neighbour, Payload, named, on_a1111
from tests.host.webui import HIRES, WebUI

ADETAILER = "adetailer"
ANIMATEDIFF = "animatediff"
TILED = "tiled diffusion"
TILED_VAE = "tiled vae"
DEMOFUSION = "demofusion"
REGIONAL = "regional prompter"
THRESHOLDING = "dynamic thresholding (cfg scale fix)"
INCANTATIONS = "incantations"
SAG = "self attention guidance"
FREEU = "freeu"
KOHYA = "kohya hires.fix"
DEEPCACHE = "deepcache"
TILES = "multidiffusion-upscaler-for-automatic1111"
METHODS = ("MultiDiffusion", "Mixture of Diffusers")
DEMOFUSED = (
    *(True, "DemoFusion", False, 32, 8, 4, 2.0, False, 10, 1.0, 1.0, 64, False),
    *(False, 3.0, 1.0, 1.0, True, 0.85, 0.6, 4, False),
)
"""Without random jitter, which does not depend on the seed."""
WITH_TODO = {"ad_only_selected_scripts": True, "ad_script_names": "todo_script"}
"""Options with which ADetailer runs ToDo's script in its own generations. It identifies scripts by file name."""
LONG = {"width": 640, "height": 256, "steps": 2}
STAGES = [{"backbone_factor": 1.2, "skip_factor": 0.9}, {"backbone_factor": 1.4, "skip_factor": 0.2}]


def beside(name: str, by: str, script: str, *arguments: Any, **payload: Any) -> Neighbour:
    """An always-on script of an extension."""
    return Neighbour(name, by, script=script, request=on_a1111(always_on(script, *arguments, **payload)))


def tiled(method: str) -> Payload:
    """Tiles of 256² pixels that overlap by 64 pixels, in batches of two."""
    return always_on(TILED, True, method, False, True, 512, 256, 32, 32, 8, 2, **WIDE)


def control_in_tiles(method: str) -> Callable[[WebUI], Payload]:
    """The extension sd-webui-controlnet with the tiles of `tiled`."""

    def request(webui: WebUI) -> Payload:
        if CONTROLNET not in webui.scripts:
            pytest.skip("this WebUI has no ControlNet")
        control, tiles = units(RESIDUAL)(webui), tiled(method)
        return {**tiles, "alwayson_scripts": {**tiles["alwayson_scripts"], **control["alwayson_scripts"]}}

    return request


def inverted(method: str, steps_back: int = 4) -> Payload:
    """img2img in tiles with noise inversion: it starts from noise that would lead to the input image."""
    arguments = (True, method, False, True, 512, 256, 16, 16, 8, 2, "None", 1.0, True, steps_back, 1.0, 0.5, 16)
    return always_on(TILED, *arguments, steps=4)


def regional(name: str, tab: str, calculation: str, prompt: str, **payload: Any) -> Neighbour:
    """Prompts for two regions: columns, or the area to which a word attends."""
    tabs = (tab, "Columns", "Mask", "Prompt", "1,1", "0.2", False, False, False)
    arguments = (True, False, *tabs, calculation, False, "0", "0", "0.5", "", "0", "0", False)
    return beside(name, "sd-webui-regional-prompter", REGIONAL, *arguments, prompt=prompt, **payload)


def incantation(name: str, **active: tuple[Any, ...]) -> Neighbour:
    """One of the extension's methods. They all share one list of arguments."""
    methods = {
        "seg": (False, 11.0, 0, 150),
        "scfg": (False, 1.0, 0.8, 3.0, 0.0, 0, 150, 4),
        "pag": (False, 0.0, 0, 150, False, "Constant", 0, 100, False),
        "t2i_zero": (False, False, 2, 0.1, 0.5, 0.0, "", 0.0, 25, 1),
    }
    arguments = [argument for method in {**methods, **active}.values() for argument in method]
    return beside(name, "sd-webui-incantations", INCANTATIONS, *arguments)


def deepcache(name: str, request: Payload, **options: Any) -> Neighbour:
    """Every second step computes the whole UNet. The other steps reuse the results of the deep blocks."""
    common = {"deepcache_enable_pass": "both passes", "deepcache_full_run_step_rate": 2}
    return Neighbour(
        name,
        "sd-webui-deepcache-standalone",
        script=DEEPCACHE,
        request=on_a1111(request),
        options={**common, "deepcache_cache_enable_step_percentage": 0.0, **options},
    )


def detailed(webui: WebUI) -> Payload:
    """A generation for the largest object that the host's first detector finds, however low its confidence."""
    names = webui.get("/adetailer/v1/ad_model").json()["ad_model"]
    detector = {"ad_model": named(names, "yolo", "detector"), "ad_confidence": 0.0001, "ad_mask_k": 1}
    return always_on(ADETAILER, True, False, {**detector, "ad_denoising_strength": 0.6})


def animated(part: str, frames: int = 4) -> Callable[[WebUI], Payload]:
    """An animation. The motion module sees four frames at a time."""

    def request(webui: WebUI) -> Payload:
        # The API does not list the motion modules, but the dropdown on the page does.
        fields = (component["props"] for component in webui.get("/config").json()["components"])
        names: list[str] = next((it["choices"] for it in fields if it.get("label") == "Motion module"), [])
        animation = {"model": named(names, part, "motion module"), "enable": True, "format": ["PNG"]}
        return always_on(ANIMATEDIFF, {**animation, "video_length": frames, "batch_size": 4, "overlap": 1}, steps=2)

    return on_a1111(request)


def lycoris(part: str) -> Callable[[WebUI], Payload]:
    """A prompt with a network for the extension that loaded LyCORIS before the WebUI could."""

    def request(webui: WebUI) -> Payload:
        answer = webui.get("/sdapi/v1/lycos")
        names = [found["name"] for found in answer.json()] if answer.status_code == 200 else []
        return {"prompt": f"a cat <lyco:{named(names, part, 'network of the LyCORIS extension')}:1>"}

    return on_a1111(request)


NEIGHBOURS = [
    beside("SAG", "sd_webui_SAG", SAG, True, 0.75, 1.0),
    beside("FreeU", "sd-webui-freeu", FREEU, {"stage_infos": STAGES}),
    beside("FreeU (version 2)", "sd-webui-freeu", FREEU, {"stage_infos": STAGES, "version": "2", "stop_ratio": 0.6}),
    beside(
        "Dynamic Thresholding",
        "sd-dynamic-thresholding",
        THRESHOLDING,
        *(True, 4.0, 90.0, "Constant", 0.0, "Constant", 0.0, 4.0, True, "MEAN", "AD", 1.0),
    ),
    *(
        beside(
            name,
            "sd-webui-kohya-hiresfix",
            KOHYA,
            *(True, True, depth, depth, 0.5, 0.5, "bicubic", 0.5, 2.0, smooth, early),
            **{**WIDE, "steps": 4},
        )
        for name, depth, smooth, early in (
            ("Kohya HRFix", 4, False, False),
            ("Kohya HRFix (finest level)", 2, False, False),
            ("Kohya HRFix (early)", 4, False, True),
        )
    ),
    deepcache("DeepCache", {"steps": 6}, deepcache_cache_resnet_level=0),
    deepcache("DeepCache (deeper)", {"steps": 6}, deepcache_cache_resnet_level=2),
    deepcache("DeepCache (hires fix)", {**HIRES, "steps": 6}, deepcache_cache_resnet_level=2),
    incantation("PAG", pag=(True, 3.0, 0, 150, False, "Constant", 0, 100, False)),
    incantation("PAG (saliency-adaptive)", pag=(True, 3.0, 0, 150, False, "Constant", 0, 100, True)),
    incantation("CFG scheduler", pag=(False, 0.0, 0, 150, True, "Linear", 0, 100, False)),
    incantation("SEG", seg=(True, 11.0, 0, 150)),
    incantation("SEG (finite blur)", seg=(True, 1.0, 0, 150)),
    incantation("S-CFG", scfg=(True, 1.0, 0.8, 3.0, 0.0, 0, 150, 4)),
    incantation("T2I-Zero", t2i_zero=(True, False, 2, 0.1, 0.5, 0.5, "", 0.0, 25, 0)),
    *(Neighbour(method, TILES, script=TILED, request=on_a1111(tiled(method))) for method in METHODS),
    *(
        Neighbour(
            f"noise inversion ({method})", TILES, script=TILED, request=on_a1111(inverted(method)), from_image=True
        )
        for method in METHODS
    ),
    *(
        Neighbour(f"ControlNet in tiles ({method})", TILES, script=TILED, request=control_in_tiles(method))
        for method in METHODS
    ),
    beside("Tiled VAE", TILES, TILED_VAE, True, 256, 48, True, True, True, False, **LONG),
    beside("DemoFusion", TILES, DEMOFUSION, *DEMOFUSED, steps=2),
    regional("Regional Prompter", "Matrix", "Attention", "a cat BREAK a dog"),
    regional("Regional Prompter (hires fix)", "Matrix", "Attention", "a cat BREAK a dog", **HIRES),
    regional("Regional Prompter (latent)", "Matrix", "Latent", "a cat BREAK a dog"),
    regional("Regional Prompter (prompt)", "Prompt", "Attention", "a cat, a hat BREAK red hat"),
    *(
        Neighbour(name, "sd-webui-animatediff", script=ANIMATEDIFF, request=request)
        for name, request in {
            "AnimateDiff": animated("v3"),
            "AnimateDiff (version 1)": animated("v1"),
            "AnimateDiff (version 2)": animated("v2"),
            "AnimateDiff (more frames than it sees at a time)": animated("v3", frames=6),
        }.items()
    ),
    # The WebUI's own Lora uses the same attribute names on layers, and removes the network again.
    Neighbour("LyCORIS LoHa", "a1111-sd-webui-lycoris", request=lycoris("loha"), outcome=DENSE),
    Neighbour("ADetailer", "adetailer", script=ADETAILER, request=on_a1111(detailed), options=WITH_TODO),
]
