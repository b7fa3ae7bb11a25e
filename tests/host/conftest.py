"""Tests against a running WebUI with this extension and the folder `probe` in its `extensions`.

SD_WEBUI_URL        its address; without it these tests are skipped
SD_WEBUI_PLAIN_URL  a second one without the extensions, with the same checkpoint (optional)
SD_WEBUI_RECORD     a JSON file to write what came of each test to (optional)
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.checkpoints import kind_of
from tests.host.recording import Recorder
from tests.host.webui import WebUI


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    own = [item for item in items if here in item.path.parents]
    for item in own:
        item.add_marker(pytest.mark.host)
    if own and not os.environ.get("SD_WEBUI_URL"):
        # One skipped test stands for all, so that one line says what is missing.
        own[0].add_marker(pytest.mark.skip(reason=f"no running WebUI ({len(own)} tests): SD_WEBUI_URL is not set"))
        items[:] = [item for item in items if item not in own[1:]]
        config.hook.pytest_deselected(items=own[1:])
    elif own and (record := os.environ.get("SD_WEBUI_RECORD")):
        about = WebUI(os.environ["SD_WEBUI_URL"]).get("/todo-probe/about").json()
        config.pluginmanager.register(Recorder(Path(record), about))


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
    """After every test: no hook of ToDo's on any UNet, and the recorder emptied."""
    yield
    webui.get("/todo-probe/calls")
    assert webui.get("/todo-probe/left").json() == []


@pytest.fixture(scope="session")
def dense(webui: WebUI) -> list[str]:
    """The picture of the tests' defaults without ToDo."""
    sha = webui.txt2img().sha
    webui.get("/todo-probe/calls")
    return sha


@pytest.fixture
def other(checkpoints: list[str]) -> str:
    """A checkpoint of the loaded one's kind."""
    found = next((title for title in checkpoints[1:] if not kind_of(title)), None)
    if found is None:
        pytest.skip("the WebUI has a single checkpoint of the loaded one's kind")
    return found


@pytest.fixture(scope="session")
def checkpoints(webui: WebUI) -> list[str]:
    """Titles of the host's checkpoints: the loaded one, then others of any family."""
    titles = [model["title"] for model in webui.get("/sdapi/v1/sd-models").json()]
    current = webui.get("/sdapi/v1/options").json()["sd_model_checkpoint"]
    return [current, *(title for title in titles if title != current)]
