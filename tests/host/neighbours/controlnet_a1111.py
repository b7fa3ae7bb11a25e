"""The extension sd-webui-controlnet on A1111. Forge has its own ControlNet, whose script has the same title."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.host.neighbours.forge_family import CONTROLNET, drawing
from tests.host.neighbours.neighbour import Neighbour, Payload, named, on_a1111
from tests.host.webui import HIRES, WebUI

BY = "sd-webui-controlnet"


def units(*units: dict[str, Any], **payload: Any) -> Callable[[WebUI], Payload]:
    """A request with these ControlNet units. The `model` of a unit is part of the name of a control model."""

    def request(webui: WebUI) -> Payload:
        names = webui.get("/controlnet/model_list").json()["model_list"]
        arguments = []
        for unit in units:
            name = named(names, unit["model"], "control model") if "model" in unit else "None"
            common = {"enabled": True, "image": drawing(), "save_detected_map": False}
            arguments.append({**common, **unit, "model": name})
        return {**payload, "alwayson_scripts": {CONTROLNET: {"args": arguments}}}

    return on_a1111(request)


def reference(module: str, fidelity: float = 0.5) -> dict[str, Any]:
    """A unit with a reference preprocessor. With weight 2 it acts in blocks of any number of channels."""
    return {"module": module, "weight": 2.0, "threshold_a": fidelity}


RESIDUAL = {"module": "none", "model": "tiny-control"}

NEIGHBOURS = [
    # Acts on some of the blocks.
    Neighbour(
        "ControlNet (LLLite)",
        BY,
        script=CONTROLNET,
        request=units({"module": "none", "model": "lllite"}),
        left_whole="projections replaced by another extension",
    ),
    *(
        Neighbour(name, BY, script=CONTROLNET, request=request)
        for name, request in {
            "ControlNet (residual)": units(RESIDUAL),
            "ControlNet (two units)": units(RESIDUAL, {**RESIDUAL, "weight": 0.5}),
            "ControlNet (T2I adapter)": units({"module": "none", "model": "adapter"}),
            "ControlNet (hires fix)": units(RESIDUAL, **HIRES),
            "ControlNet reference_only": units(reference("reference_only")),
            "ControlNet reference_only (fidelity 0)": units(reference("reference_only", 0.0)),
            "ControlNet reference_adain": units(reference("reference_adain")),
            "ControlNet reference_adain+attn": units(reference("reference_adain+attn")),
            "ControlNet reference_only (hires fix)": units(reference("reference_only"), **HIRES),
            "ControlNet (residual) and reference_only": units(RESIDUAL, reference("reference_only")),
        }.items()
    ),
]
