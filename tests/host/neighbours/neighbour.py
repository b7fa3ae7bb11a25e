"""What stands in the table of neighbours: how a request turns one on, and what must come of it beside ToDo."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.host.webui import WebUI

TOGETHER = "together"
"""Both act: the picture is the neighbour's, made with downsampled keys and values."""
ASIDE = "aside"
"""ToDo leaves every block to the neighbour, says so, and the picture is the neighbour's alone."""
DENSE = "no change"
"""The neighbour changes no picture by itself (a memory mode, an exact optimisation); ToDo acts as without it."""

Payload = Mapping[str, Any]


def only_on(
    host: str, is_it: Callable[[WebUI], bool], payload: Payload | Callable[[WebUI], Payload]
) -> Callable[[WebUI], Payload]:
    """The payload, for one host alone: others have scripts and options of equal names that are not the same."""

    def request(webui: WebUI) -> Payload:
        if not is_it(webui):
            pytest.skip(f"this WebUI is not {host}")
        return payload(webui) if callable(payload) else payload

    return request


def on_a1111(payload: Payload | Callable[[WebUI], Payload]) -> Callable[[WebUI], Payload]:
    """The payload, for A1111 alone."""
    return only_on("A1111", lambda webui: webui.is_a1111, payload)


def named(names: Iterable[str], part: str, what: str) -> str:
    """The first of a host's files with `part` in its name; without one the test is skipped."""
    found = next((name for name in names if part in name.lower()), None)
    if found is None:
        pytest.skip(f"this WebUI has no {what} with {part!r} in its name")
    return found


@dataclass(frozen=True)
class Neighbour:
    """One way in which a neighbour is turned on.

    name: the neighbour, as the matrix of docs/compatibility.md calls it.
    by: which code of it: an extension's repository, or 'built in' with the host's name.
    script: title of the script that the host must list, in lower case; '' where it needs none.
    request: what it adds to a request's payload; or a function of the host that returns that, and skips the test if
        the host lacks something (a model file, say).
    options: the host's options while it runs.
    from_image: an img2img request from the tests' own picture, not txt2img.
    outcome: TOGETHER, ASIDE or DENSE.
    left_whole: what the log must say of the blocks that are left to the neighbour; '' where none are.
    """

    name: str
    by: str
    script: str = ""
    request: Payload | Callable[[WebUI], Payload] = field(default_factory=dict)
    options: Payload = field(default_factory=dict)
    from_image: bool = False
    outcome: str = TOGETHER
    left_whole: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.by})"
