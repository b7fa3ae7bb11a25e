"""Reads the probe's record of UNet calls."""

from __future__ import annotations

from typing import Any

from tests.host.webui import WebUI


def made(webui: WebUI) -> list[dict[str, Any]]:
    """The UNet calls since the last request."""
    answer = webui.get("/todo-probe/calls")
    assert answer.status_code == 200, "link tests/host/probe into the host's extensions folder"
    return answer.json()


def finest_keys(call: dict[str, Any]) -> int:
    """The number of keys of the finest self-attention in a UNet call. It must be the same in all blocks."""
    queries = max(call["keys"], key=int)
    (keys,) = call["keys"][queries]
    return keys


def active(calls: list[dict[str, Any]]) -> list[bool]:
    """For each UNet call, whether the finest self-attention had fewer keys than queries."""
    return [finest_keys(call) < max(map(int, call["keys"])) for call in calls]


def by_size(calls: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The calls of each pass. A new pass begins when the size of the latent changes."""
    passes: list[list[dict[str, Any]]] = []
    for call in calls:
        if not passes or passes[-1][-1]["latent"] != call["latent"]:
            passes.append([])
        passes[-1].append(call)
    return passes
