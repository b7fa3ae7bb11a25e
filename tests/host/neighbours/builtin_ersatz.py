"""Features of ersatzForge."""

from __future__ import annotations

from tests.host.neighbours.forge_family import NEVER_OOM, TILED, Host
from tests.host.neighbours.neighbour import DENSE, Neighbour

CACHE = "first block cache / teacache integrated"
NOISE = "the colour of noise"
KOHYA = "kohya hrfix integrated (sd1.x, sd2.x, sdxl)"
PAG = "perturbedattentionguidance integrated (sd1.x, sd2.x, sdxl)"
SAG = "selfattentionguidance integrated (sd 1.x, sd 2.x, sdxl)"
ERSATZ = Host("ersatzForge", lambda webui: webui.is_ersatz)


NEIGHBOURS = [
    Neighbour(
        "First Block Cache",
        "ersatzForge",
        script=CACHE,
        request=ERSATZ.script(CACHE, True, "First Block Cache", 0.5, 1, 0, False, steps=6),
    ),
    Neighbour(
        "TeaCache",
        "ersatzForge",
        script=CACHE,
        request=ERSATZ.script(CACHE, True, "TeaCache", 0.5, 1, 0, False, steps=6),
    ),
    Neighbour("Colour of Noise", "ersatzForge", script=NOISE, request=ERSATZ.script(NOISE, True, "#ff0000", 0.5, 0, 0)),
    *ERSATZ.kohya(KOHYA, False),
    Neighbour("PAG", "ersatzForge", script=PAG, request=ERSATZ.script(PAG, True, 3.0, 0.0, 0.0, 1.0, "Both")),
    Neighbour("SAG", "ersatzForge", script=SAG, request=ERSATZ.script(SAG, True, 0.75, 2.0, 1.0, "Both")),
    ERSATZ.free_u(),
    *ERSATZ.style_align(),
    Neighbour(
        "Never OOM",
        "ersatzForge",
        script=NEVER_OOM,
        request=ERSATZ.script(NEVER_OOM, "Maximize offload", False, False, 512, 512, 64, "original", "Disabled"),
        outcome=DENSE,
    ),
    *(ERSATZ.tiles(method, from_image=True) for method in TILED),
    *(ERSATZ.control_in_tiles(method, from_image=True) for method in TILED),
    *ERSATZ.common("Kohya HRFix", "Kohya HRFix (finest level)"),
]
