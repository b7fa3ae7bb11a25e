"""A page made with the host's version of gradio in headless Chromium.

The environment variable CHROMIUM names the program. Without it, Chromium must be on PATH.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

from tests.standin.host import ROOT

from .browser import CHROMIUM, Tab

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
START_SECONDS = 60


@pytest.fixture(scope="session")
def browser():
    """The running browser."""
    from playwright.sync_api import sync_playwright  # may be missing, in which case the tests are skipped

    with sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def address(browser, tmp_path_factory):
    """The address of the page, which a separate process serves."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("page") / "log.txt"
    environment = {**os.environ, "GRADIO_ANALYTICS_ENABLED": "False", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "tests.standin.page", str(port)]
    with log.open("w") as output:
        server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:
        _wait_for(f"http://127.0.0.1:{port}/todo/v1/schema", server, log)
        yield f"http://127.0.0.1:{port}/"
    finally:
        # Not terminate: it would wait for the browser to close its connections.
        server.kill()
        server.wait()


def _wait_for(url: str, server: subprocess.Popen, log: Path) -> None:
    for _ in range(10 * START_SECONDS):
        if server.poll() is not None:
            break
        try:
            urlopen(url, timeout=1).close()
            return
        except (URLError, OSError):
            time.sleep(0.1)
    pytest.fail(f"the page did not start: {log.read_text()}")


@pytest.fixture
def tab(browser, address):
    """A new page with the first checkpoint loaded. Afterwards the page must not have had any errors."""
    urlopen(Request(f"{address}first-checkpoint", method="POST")).close()
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    opened = Tab(context.new_page(), f"{address}?__theme=light")
    yield opened
    context.close()
    assert opened.errors == []


@pytest.fixture(scope="session")
def artifacts() -> Path:
    """The folder for screenshots: TODO_ARTIFACTS or artifacts/."""
    folder = Path(os.environ.get("TODO_ARTIFACTS") or ROOT / "artifacts")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
