"""A host's own torch.compile, before ToDo and after it.

Compiling takes minutes, so these tests run only if SD_WEBUI_COMPILE is set, on a host that has just been started.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.host.test_generation import largest_difference
from tests.host.webui import Result, WebUI

FIXED = {"mode": "manual", "factor": 2, "phase": "fixed"}
COMPILES = bool(os.environ.get("SD_WEBUI_COMPILE"))


@pytest.mark.skipif(not COMPILES, reason="compiling takes minutes: SD_WEBUI_COMPILE is not set")
def test_torch_compile(webui: WebUI, dense: list[str]) -> None:
    title = next((title for title in webui.scripts if "torch" in title), None)
    if title is None:
        pytest.skip("this WebUI has no torch.compile")

    def generate(todo: list[Any] | None, preset: str) -> Result:
        return webui.txt2img(todo, alwayson_scripts={title: {"args": [preset]}})

    expected = {repr(todo): generate(todo, "Disable") for todo in (None, [FIXED])}
    try:
        for todo in (None, [FIXED], None, [FIXED]):
            compiled = generate(todo, "guard_filter_fn")
            assert largest_difference(compiled, expected[repr(todo)]) <= 1, todo
    finally:
        generate(None, "Disable")
    assert webui.txt2img().sha == dense
