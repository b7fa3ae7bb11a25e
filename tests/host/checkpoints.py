"""The kinds of a running WebUI's checkpoints, according to their names."""

from __future__ import annotations

import pytest

from tests.host.webui import WebUI

KINDS = {
    "SDXL": ("xl",),
    "SDXL refiner": ("refiner",),
    "SD2 v-prediction": ("sd2", "-v"),
    "inpainting": ("inpaint",),
    "instruct-pix2pix": ("pix2pix",),
    "Flux": ("flux",),
}
"""What the name of each kind of checkpoint contains. The last match counts, because refiner names contain 'xl', too."""


def kind_of(title: str) -> str:
    """The kind of a checkpoint; '' for plain SD1."""
    return next((kind for kind in reversed(KINDS) if all(part in title.lower() for part in KINDS[kind])), "")


def of_kind(checkpoints: list[str], kind: str) -> str:
    """The host's checkpoint of a kind. Skips the test if there is none."""
    found = next((title for title in checkpoints if kind_of(title) == kind), None)
    if found is None:
        pytest.skip(f"the WebUI has no {kind} checkpoint ({' and '.join(KINDS[kind])} in its name)")
    return found


def load_another_layout(webui: WebUI, checkpoints: list[str]) -> None:
    """Loads an SDXL model briefly, after which the host must create its own model again."""
    sdxl = {"sd_model_checkpoint": of_kind(checkpoints, "SDXL")}
    webui.txt2img(steps=1, width=64, height=64, override_settings=sdxl)
