"""Features of Forge Neo. RescaleCFG and MaHiRo appear when the options `show_rescale_cfg` and `show_mahiro` are on."""

from __future__ import annotations

from tests.host.neighbours.builtin_a1111 import network
from tests.host.neighbours.forge_family import TILED, Host
from tests.host.neighbours.neighbour import Neighbour
from tests.host.webui import HIRES

RESCALE = "rescalecfg"
MAHIRO = "mahiro"
NEO = Host("Neo", lambda webui: webui.is_neo)


NEIGHBOURS = [
    NEO.merging_with_stride(),
    Neighbour("token merging (no random)", "Neo", options={"token_merging_ratio": 0.5, "token_merging_no_rand": True}),
    Neighbour("RescaleCFG", "Neo", script=RESCALE, request=NEO.script(RESCALE, 0.7)),
    Neighbour("MaHiRo", "Neo", script=MAHIRO, request=NEO.script(MAHIRO, True)),
    Neighbour("epsilon scaling", "Neo", request=NEO.only({}), options={"scaling_factor": 1.05}),
    Neighbour("Skip Early CFG", "Neo", request=NEO.only({}), options={"skip_early_cond": 0.5}),
    Neighbour("NGMS", "Neo", request=NEO.only({"s_min_uncond": 8.0}), options={"s_min_uncond_all": True}),
    *(NEO.tiles(method, from_image=True) for method in TILED),
    *(NEO.control_in_tiles(method, from_image=True) for method in TILED),
    Neighbour("LoRA in the hires pass", "Neo", request=NEO.only(lambda webui: {**network("lora")(webui), **HIRES})),
    *NEO.common(),
]
