"""Features of Forge Classic."""

from __future__ import annotations

from tests.host.neighbours.forge_family import STRIDE, Host
from tests.host.neighbours.neighbour import Neighbour
from tests.host.webui import WebUI

RESCALE = "rescalecfg"


def is_classic(webui: WebUI) -> bool:
    return STRIDE in webui.get("/sdapi/v1/options").json() and not webui.is_forge


CLASSIC = Host("Classic", is_classic)

NEIGHBOURS = [
    CLASSIC.merging_with_stride(),
    Neighbour("RescaleCFG", "Classic", script=RESCALE, request=CLASSIC.script(RESCALE, 0.7)),
    CLASSIC.never_oom(),
    *CLASSIC.common(),
]
