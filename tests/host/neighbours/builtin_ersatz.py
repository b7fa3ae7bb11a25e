"""Features of ersatzForge."""

from __future__ import annotations

from tests.host.neighbours.forge_family import TILES, WIDE, Host, always_on, control
from tests.host.neighbours.neighbour import DENSE, Neighbour

CACHE = "first block cache / teacache integrated"
NOISE = "the colour of noise"
KOHYA = "kohya hrfix integrated (sd1.x, sd2.x, sdxl)"
PAG = "perturbedattentionguidance integrated (sd1.x, sd2.x, sdxl)"
SAG = "selfattentionguidance integrated (sd 1.x, sd 2.x, sdxl)"
FREEU = "freeu integrated (sd 1.x, sd 2.x, sdxl)"
STYLEALIGN = "stylealign integrated"
NEVER_OOM = "never oom integrated"
ERSATZ = Host("ersatzForge", lambda webui: webui.is_ersatz)


def tiled(method: str) -> dict[str, object]:
    """It has tiles in img2img only."""
    return always_on(TILES, True, method, 256, 256, 64, 2, **WIDE)


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
    Neighbour(
        "Kohya HRFix",
        "ersatzForge",
        script=KOHYA,
        request=ERSATZ.script(KOHYA, True, 3, 2.0, 0.0, 0.5, True, "bicubic", "bicubic", False, **WIDE),
    ),
    Neighbour(
        "Kohya HRFix (finest level)",
        "ersatzForge",
        script=KOHYA,
        request=ERSATZ.script(KOHYA, True, 1, 1.7, 0.0, 0.5, False, "bicubic", "bicubic", False, **WIDE),
    ),
    Neighbour("PAG", "ersatzForge", script=PAG, request=ERSATZ.script(PAG, True, 3.0, 0.0, 0.0, 1.0, "Both")),
    Neighbour("SAG", "ersatzForge", script=SAG, request=ERSATZ.script(SAG, True, 0.75, 2.0, 1.0, "Both")),
    Neighbour("FreeU", "ersatzForge", script=FREEU, request=ERSATZ.script(FREEU, True, 1.3, 1.4, 0.9, 0.2, 0.0, 1.0)),
    Neighbour(
        "StyleAlign", "ersatzForge", script=STYLEALIGN, request=ERSATZ.script(STYLEALIGN, True, 1.0, batch_size=2)
    ),
    Neighbour(
        "StyleAlign (half)",
        "ersatzForge",
        script=STYLEALIGN,
        request=ERSATZ.script(STYLEALIGN, True, 0.5, batch_size=2),
    ),
    Neighbour(
        "Never OOM",
        "ersatzForge",
        script=NEVER_OOM,
        request=ERSATZ.script(NEVER_OOM, "Maximize offload", False, False, 512, 512, 64, "original", "Disabled"),
        outcome=DENSE,
    ),
    *(
        Neighbour(method, "ersatzForge", script=TILES, request=ERSATZ.only(tiled(method)), from_image=True)
        for method in ("MultiDiffusion", "Mixture of Diffusers")
    ),
    *(
        Neighbour(
            f"ControlNet in tiles ({method})",
            "ersatzForge",
            script=TILES,
            request=ERSATZ.only(control("tiny-control", **tiled(method))),
            from_image=True,
        )
        for method in ("MultiDiffusion", "Mixture of Diffusers")
    ),
    *ERSATZ.common("Kohya HRFix", "Kohya HRFix (finest level)"),
]
