"""Tests against a running ComfyUI with this repository and a link to the folder `probe` in its `custom_nodes`.

COMFYUI_URL      the address; without it, these tests are skipped
COMFYUI_SD1, COMFYUI_SDXL   checkpoints (default: tiny-sd15.safetensors, tiny-sdxl.safetensors)
COMFYUI_COMPILE  set it to test TorchCompileModel, too, which takes some minutes
COMFYUI_RECORD   a JSON file for the outcome of each test (optional)

Nodes of others are tested if they are there: ComfyUI-Spectrum-sdxl, ComfyUI-Spectrum-SDXL-Proper and
ComfyUI_UltimateSDUpscale; the page, if playwright and a Chromium are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.comfyui.client import ComfyUI
from tests.recording import Recorder, only_one


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    own = [item for item in items if here in item.path.parents]
    if own and not os.environ.get("COMFYUI_URL"):
        only_one(config, items, own, "COMFYUI_URL", "ComfyUI")
    elif own and (record := os.environ.get("COMFYUI_RECORD")):
        system = ComfyUI(os.environ["COMFYUI_URL"]).ask("/system_stats")["system"]
        about = {
            "comfyui": system["comfyui_version"],
            "python": system["python_version"].split()[0],
            "torch": system["pytorch_version"],
        }
        config.pluginmanager.register(Recorder(Path(record), about, here.name))


@pytest.fixture(scope="session")
def comfyui() -> ComfyUI:
    return ComfyUI(os.environ["COMFYUI_URL"])


@pytest.fixture(scope="session")
def sd1() -> str:
    return os.environ.get("COMFYUI_SD1", "tiny-sd15.safetensors")


@pytest.fixture(scope="session")
def sdxl() -> str:
    return os.environ.get("COMFYUI_SDXL", "tiny-sdxl.safetensors")


@pytest.fixture(autouse=True)
def nothing_left(comfyui: ComfyUI) -> Iterator[None]:
    """Before every test, forgets what was recorded; after it, checks that no network has hooks of ToDo."""
    comfyui.probe("reference", factor=1)
    comfyui.ask("/todo-probe/calls")
    comfyui.ask("/todo-probe/log")
    yield
    comfyui.probe("reference", factor=1)
    assert comfyui.ask("/todo-probe/left") == []
