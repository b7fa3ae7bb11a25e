"""A running WebUI's checkpoints, by what their names say of their kind."""

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
"""What the name of a kind's checkpoint contains. The last that fits counts: a refiner's has 'xl' in it too."""


def kind_of(title: str) -> str:
    """The kind of a checkpoint; '' for one of the loaded one's kind."""
    return next((kind for kind in reversed(KINDS) if all(part in title.lower() for part in KINDS[kind])), "")


def of_kind(checkpoints: list[str], kind: str) -> str:
    """The host's checkpoint of a kind; without one the test is skipped."""
    found = next((title for title in checkpoints if kind_of(title) == kind), None)
    if found is None:
        pytest.skip(f"the WebUI has no {kind} checkpoint ({' and '.join(KINDS[kind])} in its name)")
    return found


def load_another_layout(webui: WebUI, checkpoints: list[str]) -> None:
    """Loads an SDXL model for a moment, after which the host makes its own model anew."""
    sdxl = {"sd_model_checkpoint": of_kind(checkpoints, "SDXL")}
    webui.txt2img(steps=1, width=64, height=64, override_settings=sdxl)
