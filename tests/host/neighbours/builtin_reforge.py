"""Features of reForge."""

from __future__ import annotations

from tests.host.neighbours.forge_family import THRESHOLDING, THRESHOLDS, Host
from tests.host.neighbours.neighbour import ASIDE, TOGETHER, Neighbour
from tests.host.webui import HIRES

SAG = "selfattentionguidance integrated"
FREEU = "freeu integrated"
HYPERTILE = "hypertile integrated"
MODIFIER = "latentmodifier integrated"
MAHIRO = "mahiro cfg for reforge"
APG = '"apg\'s now your cfg" and guidance limiter for reforge'
RESCALE = "rescalecfg for reforge"
LATENT = (
    *(True, 5.0, "anisotropic", "None", True, 0.5, "reinhard", 99.0, 1.0),
    *(True, "gaussian", "add", 0.0, 100, "subtract", 0.5, 0.5),
    *(False, 127, 0.0, "hard_clamp", 5.0, 0.0, False, "None"),
)
REFORGE = Host("reForge", lambda webui: RESCALE in webui.scripts)

NEIGHBOURS = [
    Neighbour("SAG", "reForge", script=SAG, request=REFORGE.script(SAG, True, 0.75, 2.0)),
    Neighbour("FreeU", "reForge", script=FREEU, request=REFORGE.script(FREEU, True, 1.3, 1.4, 0.9, 0.2)),
    # Only tiles the queries of the finest level, which is every block that these settings touch.
    Neighbour(
        "HyperTile",
        "reForge",
        script=HYPERTILE,
        request=REFORGE.script(HYPERTILE, True, 128, 1, 0, False),
        outcome=ASIDE,
        left_whole="tiled",
    ),
    Neighbour(
        "HyperTile (hires fix)",
        "reForge",
        script=HYPERTILE,
        request=REFORGE.script(HYPERTILE, True, 256, 1, 0, False, **{**HIRES, "hr_scale": 2, "steps": 2}),
        outcome=TOGETHER,
        left_whole="tiled",
    ),
    Neighbour(
        "Dynamic Thresholding",
        "reForge",
        script=THRESHOLDING,
        request=REFORGE.script(THRESHOLDING, True, False, *THRESHOLDS),
    ),
    Neighbour("Latent Modifier", "reForge", script=MODIFIER, request=REFORGE.script(MODIFIER, *LATENT)),
    Neighbour("Mahiro CFG", "reForge", script=MAHIRO, request=REFORGE.script(MAHIRO, True)),
    Neighbour(
        "APG",
        "reForge",
        script=APG,
        request=REFORGE.script(APG, True, 0.5, 0.18, 15.0, 1.0, False, 5.42, 0.28),
    ),
    Neighbour(
        "guidance limiter",
        "reForge",
        script=APG,
        request=REFORGE.script(APG, False, 0.5, 0.18, 15.0, 1.0, True, 5.42, 0.28),
    ),
    Neighbour("RescaleCFG", "reForge", script=RESCALE, request=REFORGE.script(RESCALE, True, "Normal", 0.7)),
    REFORGE.never_oom(512, 64),
    # ControlNet in tiles and SpotDiffusion are missing: they also fail without ToDo (tiled_diffusion.py:360 and :612).
    REFORGE.tiles("MultiDiffusion", "sorted"),
    REFORGE.tiles("Mixture of Diffusers", "sorted"),
    # Without reference_adain: the UNet ignores the modifiers that this preprocessor adds, so it changes no image.
    *REFORGE.common("ControlNet reference_adain"),
]
