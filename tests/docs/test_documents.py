"""The documents are correct: generated parts are up to date, the README's example runs, and its links exist."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch

import todo
from docs.generate import ROOT
from docs.generate.parts import PARTS, generated
from tests.examples import example
from tests.unit.small_models import CONTEXT, assert_no_hooks
from tests.unit.test_diffusers_pipelines import CONTROLNET, INPUT_IMAGE, PLAIN, SIZE, Kind, euler, make
from todo.schedule import Moment
from todo.webui.request import Compare, Wanted, requested

DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "benchmarks" / "tiny" / "README.md"]


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
    exec(example("api", "example").replace("http://127.0.0.1:7860", f"http://127.0.0.1:{server.server_port}"), {})
    assert server.path == "/sdapi/v1/txt2img"
    arguments = server.payload["alwayson_scripts"]["todo"]["args"]
    assert requested(arguments, {}) == Wanted(todo.Settings(mode="manual", factor=2), Compare.OFF)
    assert (tmp_path / "lighthouse.png").read_bytes() == b"image"


def test_the_quoted_live_line_is_the_plans_summary() -> None:
    assert todo.plan(1024, 1024, todo.Settings()).summary() in (ROOT / "README.md").read_text(encoding="utf8")


def test_a_reader_finishes_the_readme() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf8").splitlines()) <= 170


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_no_link_is_dead(document: Path) -> None:
    for link in re.findall(r"\]\((?!http)([^)]+)\)", document.read_text(encoding="utf8")):
        path, _, heading = link.partition("#")
        target = (document.parent / path) if path else document
        assert target.exists(), link
        assert not heading or heading in headings(target), link


def headings(document: Path) -> set[str]:
    """The names under which a document's headings can be linked."""
    text = document.read_text(encoding="utf8")
    found = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found} | {
        *re.findall(r'<a (?:id|name)="([^"]+)"', text)
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_the_make_targets_that_it_names_exist(document: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf8")
    for target in re.findall(r"(?:^|`)make (\w+)", document.read_text(encoding="utf8"), re.MULTILINE):
        assert f"\n{target}:" in makefile


def test_every_snippet_of_python_is_executed() -> None:
    text = "".join(document.read_text(encoding="utf8") for document in DOCUMENTS)
    assert text.count("```python") == text.count(": executed by the tests -->\n```python") == 5


def small(kind: Kind) -> Any:
    """A tiny pipeline without text encoder. It makes every image small and in few steps, whatever it is asked for."""
    pipe = make(kind, euler)

    class Small(type(pipe)):  # type: ignore[misc]
        def __call__(self, prompt: str, **options: Any) -> Any:
            size = SIZE if "image" not in options else {}
            embedded = {name: torch.zeros(1, 5, CONTEXT) for name in ("prompt_embeds", "negative_prompt_embeds")}
            steps = {"num_inference_steps": 4 if "strength" in options else 3}
            return super().__call__(**{**options, **size, **embedded, **steps}, output_type="pt")

    pipe.__class__ = Small
    return pipe


def test_the_python_examples(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {
        "pipe": small(PLAIN),
        "with_controlnet": small(CONTROLNET),
        "image_to_image": small(Kind("StableDiffusionImg2ImgPipeline", {})),
        "hint": INPUT_IMAGE,
    }
    exec(example("python", "pipeline").replace("todo.Settings()", 'todo.Settings(mode="manual")'), names)
    assert capsys.readouterr().out == "level 1, 24×16: keys/values 384 → 96 in 9 of 9 attention calls\n"
    assert_no_hooks(names["pipe"].unet)
    exec(example("python", "controlnet"), names)
    for name in ("with_controlnet", "image_to_image"):
        assert_no_hooks(names[name].unet)
    names["pipe"].unet.compile = partial(names["pipe"].unet.compile, backend="eager")  # inductor takes minutes
    exec(example("python", "compile"), names)
    assert all(row.downsampled for row in names["patch"].report())
    exec(example("python", "callback"), names)
    assert names["patch"].moment == Moment(1.0, 3, few_steps=True)
