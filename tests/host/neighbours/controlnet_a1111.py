"""The extension sd-webui-controlnet on A1111. Forge brings a ControlNet of its own, under the same script's title."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.host.neighbours.forge_family import CONTROLNET, drawing
from tests.host.neighbours.neighbour import Neighbour, Payload
from tests.host.webui import HIRES, WebUI

BY = "sd-webui-controlnet"


def units(*units: dict[str, Any], **payload: Any) -> Callable[[WebUI], Payload]:
    """A request with these ControlNet units. A unit's `model` is a part of the name of a control model."""

    def request(webui: WebUI) -> Payload:
        if not webui.is_a1111:
            pytest.skip("this WebUI is not A1111")
        names = webui.get("/controlnet/model_list").json()["model_list"]
        arguments = []
        for unit in units:
            part = unit.get("model")
            name = next((name for name in names if part and part in name.lower()), None)
            if part and name is None:
                pytest.skip(f"this WebUI has no control model with {part!r} in its name")
            common = {"enabled": True, "image": drawing(), "save_detected_map": False}
            arguments.append({**common, **unit, "model": name or "None"})
        return {**payload, "alwayson_scripts": {CONTROLNET: {"args": arguments}}}

    return request


def reference(module: str, fidelity: float = 0.5, **payload: Any) -> Callable[[WebUI], Payload]:
    """A reference preprocessor. At the weight of 2 it acts in blocks of any number of channels."""
    return units({"module": module, "weight": 2.0, "threshold_a": fidelity}, **payload)


RESIDUAL = {"module": "none", "model": "tiny-control"}
REFERENCE = {"module": "reference_only", "weight": 2.0, "threshold_a": 0.5}

NEIGHBOURS = [
    Neighbour(name, BY, script=CONTROLNET, request=request)
    for name, request in {
        "ControlNet (residual)": units(RESIDUAL),
        "ControlNet (two units)": units(RESIDUAL, {**RESIDUAL, "weight": 0.5}),
        "ControlNet (hires fix)": units(RESIDUAL, **HIRES),
        "ControlNet reference_only": reference("reference_only"),
        "ControlNet reference_only (fidelity 0)": reference("reference_only", 0.0),
        "ControlNet reference_adain": reference("reference_adain"),
        "ControlNet reference_adain+attn": reference("reference_adain+attn"),
        "ControlNet reference_only (hires fix)": reference("reference_only", **HIRES),
        "ControlNet (residual) and reference_only": units(RESIDUAL, REFERENCE),
    }.items()
]
