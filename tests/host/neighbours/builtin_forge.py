"""Features of Forge."""

from __future__ import annotations

from tests.host.neighbours.builtin_a1111 import network
from tests.host.neighbours.forge_family import THRESHOLDING, THRESHOLDS, Host
from tests.host.neighbours.neighbour import Neighbour, Payload

PAG = "perturbedattentionguidance integrated"
SAG = "selfattentionguidance integrated (sd 1.x, sd 2.x, sdxl)"
MODIFIER = "latentmodifier integrated"
LATENT = (
    *(True, 5.0, "anisotropic", 0.5, "reinhard", 99.0, 1.0, "subtract", 0.5, 0.5),
    *("gaussian", "add", 0.0, 100, 127, 0.0, "hard_clamp", 5.0, 0.0, "None", "None"),
)
FORGE = Host("Forge", lambda webui: webui.is_forge and not webui.is_neo and not webui.is_ersatz)


def stored_as(choice: str) -> Payload:
    """Options that store the weights in fewer bits. Forge reads them when it loads a model, and it reloads the model
    when the memory for inference changes."""
    return {"forge_unet_storage_dtype": choice, "forge_inference_memory": 1000}


NEIGHBOURS = [
    Neighbour("PAG", "Forge", script=PAG, request=FORGE.script(PAG, True, 3.0, 10.0, 0.0, 1.0)),
    Neighbour("SAG", "Forge", script=SAG, request=FORGE.script(SAG, True, 0.75, 2.0, 1.0)),
    FORGE.free_u(),
    *FORGE.style_align(),
    Neighbour(
        "Dynamic Thresholding",
        "Forge",
        script=THRESHOLDING,
        request=FORGE.script(THRESHOLDING, True, *THRESHOLDS),
    ),
    Neighbour("Latent Modifier", "Forge", script=MODIFIER, request=FORGE.script(MODIFIER, *LATENT)),
    FORGE.never_oom(),
    Neighbour("fp8 storage", "Forge", options=stored_as("float8-e4m3fn")),
    Neighbour("fp8 storage (e5m2)", "Forge", options=stored_as("float8-e5m2")),
    Neighbour(
        "LoRA, applied on the fly",
        "Forge",
        request=FORGE.only(network("lora")),
        options=stored_as("Automatic (fp16 LoRA)"),
    ),
    FORGE.tiles("MultiDiffusion"),
    FORGE.tiles("Mixture of Diffusers"),
    FORGE.control_in_tiles("MultiDiffusion"),
    FORGE.control_in_tiles("Mixture of Diffusers"),
    *FORGE.common(),
]
