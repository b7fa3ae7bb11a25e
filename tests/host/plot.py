"""Requests for the X/Y/Z plot, whose arguments differ from host to host."""

from __future__ import annotations

from typing import Any

import pytest

from tests.host.webui import WebUI

SET = {"Draw legend": False, "Include Sub Images": True, "Keep -1 for seeds": True}


def axis_labels(webui: WebUI) -> list[str]:
    return _arguments(webui)[0]["choices"]


def plot(webui: WebUI, axis: str, values: str) -> dict[str, Any]:
    """The part of a request that plots comma-separated values of one axis. Returns the grid and the single images."""
    labels = axis_labels(webui)
    indices = {"X type": labels.index(axis), "Y type": labels.index("Nothing"), "Z type": labels.index("Nothing")}
    changed = {**SET, **indices, "Use text inputs instead of dropdowns": True}
    arguments = [changed.get(argument["label"], argument["value"]) for argument in _arguments(webui)]
    arguments[1] = values
    return {"script_name": "x/y/z plot", "script_args": arguments}


def _arguments(webui: WebUI) -> list[dict[str, Any]]:
    return script_arguments(webui, "x/y/z plot")


def script_arguments(webui: WebUI, name: str) -> list[dict[str, Any]]:
    """The arguments of a script in txt2img."""
    answer = webui.get("/sdapi/v1/script-info")
    if answer.status_code != 200:
        pytest.skip("this WebUI's API does not list the arguments of scripts; it does since 1.8")
    return next(script["args"] for script in answer.json() if script["name"] == name and not script["is_img2img"])
