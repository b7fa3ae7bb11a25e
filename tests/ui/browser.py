"""The page in a browser: reading what it shows, clicking and typing."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from todo.webui.request import NAMES

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
LOCAL = "127.0.0.1"
SECONDS = 8
IDLE_SECONDS = 0.9
"""More than twice the interval at which the script reads the page."""


def missing() -> str:
    """The requirement of these tests that is missing, as text; '' if none is."""
    if find_spec("playwright") is None:
        return "the page's tests need playwright: pip install playwright"
    return "" if CHROMIUM else "the page's tests need a Chromium: set CHROMIUM, or have one on PATH"


class Tab:
    """A tab of the browser. `asked` holds the questions of the live line so far, `errors` the errors on the page.

    A question is a dict with the sizes as `passes`, and the values of our controls by name.
    """

    def __init__(self, page: Any, url: str):
        self.page = page
        self.asked: list[dict[str, Any]] = []
        self.errors: list[str] = []
        page.set_default_timeout(1000 * SECONDS)
        page.on("request", self._on_request)
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        # gradio requests fonts and a script from other servers. Nothing may leave this machine.
        page.route(lambda address: urlsplit(address).hostname != LOCAL, _answer_empty)
        page.goto(url, wait_until="domcontentloaded")
        page.wait_for_selector("#script_txt2img_todo_enabled-visible-checkbox", state="attached")

    def _on_request(self, request: Any) -> None:
        if not urlsplit(request.url).path.startswith("/run/"):
            return
        first, *values = json.loads(request.post_data)["data"] or [None]
        if isinstance(first, str) and first.startswith('{"id":'):
            self.asked.append({**json.loads(first), **dict(zip(NAMES, values, strict=False))})

    def _on_console(self, message: Any) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    # --- reading

    def find(self, selector: str) -> Any:
        return self.page.locator(selector)

    def accordion(self, tab: str = "txt2img") -> Any:
        return self.find(f"#script_{tab}_todo_enabled")

    def knob(self, name: str, tab: str = "txt2img") -> Any:
        return self.find(f"#script_{tab}_todo_{name}")

    def live(self, tab: str = "txt2img") -> str:
        text = self.find(f"#script_{tab}_todo_live .todo-live").inner_text()
        return "\n".join(line.strip() for line in text.strip().split("\n"))

    def ticked(self, tab: str = "txt2img") -> bool:
        return self.find(f"#script_{tab}_todo_enabled-visible-checkbox").is_checked()

    def values(self, tab: str = "txt2img") -> list[Any]:
        """The values of our controls that a generation would receive."""
        shown = self.find(f"#{tab}_values textarea")
        shown.evaluate("node => node.value = ''")
        self.find(f"#{tab}_generate").click()
        self.until(lambda: shown.input_value())
        return json.loads(shown.input_value())

    def until(self, condition: Callable[[], Any]) -> Any:
        """Waits until `condition` returns a true value, and returns it."""
        end = time.monotonic() + SECONDS
        while not (value := condition()) and time.monotonic() < end:
            self.page.wait_for_timeout(50)
        return value

    def live_is(self, wanted: Callable[[str], bool], tab: str = "txt2img") -> str:
        """Waits until the live line is as wanted, and returns it."""
        self.until(lambda: wanted(self.live(tab)))
        text = self.live(tab)
        assert wanted(text), text
        return text

    def settle(self) -> int:
        """Waits until the page sends no more requests, and returns their number so far."""
        count = -1
        while count != len(self.asked):
            count = len(self.asked)
            self.page.wait_for_timeout(1000 * IDLE_SECONDS)
        return count

    # --- acting

    def open(self, tab: str = "txt2img") -> None:
        """Opens our accordion, which enables ToDo."""
        self.accordion(tab).locator(".label-wrap").first.click()

    def unfold(self, tab: str = "txt2img") -> None:
        """Shows the controls that are folded away."""
        self.knob("more", tab).locator(".label-wrap").click()

    def number(self, element: str, value: float) -> None:
        field = self.find(f"#{element} input[type=number]")
        field.fill(str(value))
        field.press("Tab")

    def select(self, element: str, choice: str) -> None:
        """Selects a choice of a dropdown."""
        field = self.find(f"#{element} input")
        field.click()
        self.find(f"#{element} li").filter(has_text=choice).first.click()
        field.blur()

    def paste(self, text: str, tab: str = "txt2img") -> None:
        self.find(f"#{tab}_infotext textarea").fill(text)
        self.find(f"#{tab}_paste").click()

    def tick(self, element: str, choice: str = "") -> None:
        """Clicks a checkbox, or a choice of a radio."""
        self.find(f"#{element} label").filter(has_text=choice).last.click()


def _answer_empty(route: Any) -> None:
    kinds = {"stylesheet": "text/css", "script": "text/javascript"}
    route.fulfill(status=200, content_type=kinds.get(route.request.resource_type, "text/plain"), body="")
