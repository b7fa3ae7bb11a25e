"""What stands in the table of neighbours: how a request turns one on, and what must come of it beside ToDo."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.host.webui import WebUI

TOGETHER = "together"
"""Both act: the picture is the neighbour's, made with downsampled keys and values."""
ASIDE = "aside"
"""ToDo leaves every block to the neighbour, says so, and the picture is the neighbour's alone."""
DENSE = "no change"
"""The neighbour changes no picture by itself (a memory mode, an exact optimisation); ToDo acts as without it."""

Payload = Mapping[str, Any]


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
