"""Features of Forge Classic."""

from __future__ import annotations

from tests.host.neighbours.forge_family import Host
from tests.host.neighbours.neighbour import Neighbour
from tests.host.webui import WebUI

RESCALE = "rescalecfg"
STRIDE = "token_merging_stride"


def is_classic(webui: WebUI) -> bool:
    return STRIDE in webui.get("/sdapi/v1/options").json() and not webui.is_forge


CLASSIC = Host("Classic", is_classic)

NEIGHBOURS = [
    Neighbour(
        "token merging (two levels, stride 4)",
        "Classic",
        request=CLASSIC.only({}),
        options={"token_merging_ratio": 0.5, "token_merging_downsample": 2, STRIDE: 4},
    ),
    Neighbour("RescaleCFG", "Classic", script=RESCALE, request=CLASSIC.script(RESCALE, 0.7)),
    CLASSIC.never_oom(),
    *CLASSIC.common(),
]
