"""A neighbour: how a request turns it on, and the expected outcome together with ToDo."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.host.webui import WebUI

TOGETHER = "together"
"""Both act: the image is the neighbour's, with downsampled keys and values."""
ASIDE = "aside"
"""ToDo leaves every block to the neighbour and says so. The image is the same as without ToDo."""
DENSE = "no change"
"""The neighbour does not change the image (a memory mode, an exact optimisation). ToDo acts as without it."""

Payload = Mapping[str, Any]


def only_on(
    host: str, is_it: Callable[[WebUI], bool], payload: Payload | Callable[[WebUI], Payload]
) -> Callable[[WebUI], Payload]:
    """The payload, for one host only. Other hosts have different scripts and options under the same names."""

    def request(webui: WebUI) -> Payload:
        if not is_it(webui):
            pytest.skip(f"this WebUI is not {host}")
        return payload(webui) if callable(payload) else payload

    return request


def on_a1111(payload: Payload | Callable[[WebUI], Payload]) -> Callable[[WebUI], Payload]:
    """The payload, for A1111 only."""
    return only_on("A1111", lambda webui: webui.is_a1111, payload)


def named(names: Iterable[str], part: str, what: str) -> str:
    """The first of a host's files that has `part` in its name. Skips the test if there is none."""
    found = next((name for name in names if part in name.lower()), None)
    if found is None:
        pytest.skip(f"this WebUI has no {what} with {part!r} in its name")
    return found


@dataclass(frozen=True)
class Neighbour:
    """A configuration of another extension, or of a feature of the host.

    Attributes:
        name: the name in docs/compatibility.md.
        by: where it comes from: the repository of an extension, 'built in' or the name of a host.
        script: title of the script that the host must have, in lower case; '' if it needs none.
        request: what to add to the payload of a request. May be a function of the host that returns this, and skips the
            test if the host lacks something, such as a model file.
        options: options of the host for the duration of the test.
        from_image: whether to use img2img instead of txt2img.
        outcome: TOGETHER, ASIDE or DENSE.
        left_whole: what the log must say about blocks that are left whole; '' if there are none.
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
