"""The documents are correct: generated parts are up to date, the README's example runs, and its links exist."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

import todo
from docs.generate.parts import PARTS, README, api_example, generated
from todo.webui.request import Wanted, requested

ROOT = README.parent


@pytest.fixture
def server() -> Iterator[Any]:
    """A stand-in for a WebUI: stores the payload and answers with an image."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.server.payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.server.path = self.path
            body = json.dumps({"images": [base64.b64encode(b"image").decode()]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as running:
        Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


@pytest.mark.parametrize(("document", "name"), PARTS, ids=lambda part: getattr(part, "name", part))
def test_generated_parts_are_up_to_date(document: Path, name: str) -> None:
    assert generated(document, name) == PARTS[document, name](), "run make docs"


def test_api_example(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(api_example(f"http://127.0.0.1:{server.server_port}"), {})
    assert server.path == "/sdapi/v1/txt2img"
    arguments = server.payload["alwayson_scripts"]["todo"]["args"]
    assert requested(arguments, {}) == Wanted(todo.Settings(mode="manual", factor=2), compare=False)
    assert (tmp_path / "lighthouse.png").read_bytes() == b"image"


def test_the_quoted_live_line_is_the_plans_summary() -> None:
    assert todo.plan(1024, 1024, todo.Settings()).summary() in README.read_text(encoding="utf8")


def test_the_files_and_make_targets_that_it_names_exist() -> None:
    text = README.read_text(encoding="utf8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf8")
    for target in re.findall(r"\bmake (\w+)", text):
        assert f"\n{target}:" in makefile
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (ROOT / link).exists(), link
