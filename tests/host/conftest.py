"""Tests against a running WebUI with this extension and the folder `probe` in its `extensions`.

SD_WEBUI_URL        the address; without it, these tests are skipped
SD_WEBUI_PLAIN_URL  a second WebUI without the extensions, with the same checkpoint (optional)
SD_WEBUI_RECORD     a JSON file for the outcome of each test (optional)
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.checkpoints import kind_of
from tests.host.webui import WebUI
from tests.recording import Recorder, only_one


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    own = [item for item in items if here in item.path.parents]
    for item in own:
        item.add_marker(pytest.mark.host)
    if own and not os.environ.get("SD_WEBUI_URL"):
        only_one(config, items, own, "SD_WEBUI_URL", "WebUI")
    elif own and (record := os.environ.get("SD_WEBUI_RECORD")):
        about = WebUI(os.environ["SD_WEBUI_URL"]).get("/todo-probe/about").json()
        config.pluginmanager.register(Recorder(Path(record), about, here.name))


@pytest.fixture(scope="session")
def webui() -> WebUI:
    return WebUI(os.environ["SD_WEBUI_URL"])


@pytest.fixture(scope="session")
def plain() -> WebUI:
    url = os.environ.get("SD_WEBUI_PLAIN_URL")
    if not url:
        pytest.skip("no WebUI without the extension: SD_WEBUI_PLAIN_URL is not set")
    return WebUI(url)


@pytest.fixture(autouse=True)
def nothing_left(webui: WebUI) -> Iterator[None]:
    """After every test: checks that no UNet has hooks of ToDo, and clears the probe's record of calls."""
    yield
    webui.get("/todo-probe/calls")
    assert webui.get("/todo-probe/left").json() == []


@pytest.fixture(scope="session")
def dense(webui: WebUI) -> list[str]:
    """The image with the default parameters of the tests, without ToDo."""
    sha = webui.txt2img().sha
    webui.get("/todo-probe/calls")
    return sha


@pytest.fixture
def other(checkpoints: list[str]) -> str:
    """A second checkpoint of the same kind as the loaded one."""
    found = next((title for title in checkpoints[1:] if not kind_of(title)), None)
    if found is None:
        pytest.skip("the WebUI has only one checkpoint of this kind")
    return found


@pytest.fixture(scope="session")
def checkpoints(webui: WebUI) -> list[str]:
    """The titles of the host's checkpoints: the loaded one first, then all others."""
    titles = webui.get("/todo-probe/checkpoints").json()
    current = webui.get("/sdapi/v1/options").json()["sd_model_checkpoint"]
    return [current, *(title for title in titles if title != current)]
