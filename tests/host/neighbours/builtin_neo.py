"""Features of Forge Neo. RescaleCFG and MaHiRo appear when the options `show_rescale_cfg` and `show_mahiro` are on."""

from __future__ import annotations

from tests.host.neighbours.builtin_a1111 import network
from tests.host.neighbours.forge_family import TILES, WIDE, Host, always_on, control
from tests.host.neighbours.neighbour import Neighbour
from tests.host.webui import HIRES

RESCALE = "rescalecfg"
MAHIRO = "mahiro"
NEO = Host("Neo", lambda webui: webui.is_neo)


def tiled(method: str) -> dict[str, object]:
    """Neo has tiles in img2img only."""
    return always_on(TILES, True, method, 256, 256, 64, 2, **WIDE)


NEIGHBOURS = [
    Neighbour(
        "token merging (two levels, stride 4)",
        "Neo",
        request=NEO.only({}),
        options={"token_merging_ratio": 0.5, "token_merging_downsample": 2, "token_merging_stride": 4},
    ),
    Neighbour("token merging (no random)", "Neo", options={"token_merging_ratio": 0.5, "token_merging_no_rand": True}),
    Neighbour("RescaleCFG", "Neo", script=RESCALE, request=NEO.script(RESCALE, 0.7)),
    Neighbour("MaHiRo", "Neo", script=MAHIRO, request=NEO.script(MAHIRO, True)),
    Neighbour("epsilon scaling", "Neo", request=NEO.only({}), options={"scaling_factor": 1.05}),
    Neighbour("Skip Early CFG", "Neo", request=NEO.only({}), options={"skip_early_cond": 0.5}),
    Neighbour("NGMS", "Neo", request=NEO.only({"s_min_uncond": 8.0}), options={"s_min_uncond_all": True}),
    *(
        Neighbour(method, "Neo", script=TILES, request=NEO.only(tiled(method)), from_image=True)
        for method in ("MultiDiffusion", "Mixture of Diffusers")
    ),
    *(
        Neighbour(
            f"ControlNet in tiles ({method})",
            "Neo",
            script=TILES,
            request=NEO.only(control("tiny-control", **tiled(method))),
            from_image=True,
        )
        for method in ("MultiDiffusion", "Mixture of Diffusers")
    ),
    Neighbour("LoRA in the hires pass", "Neo", request=NEO.only(lambda webui: {**network("lora")(webui), **HIRES})),
    *NEO.common(),
]
