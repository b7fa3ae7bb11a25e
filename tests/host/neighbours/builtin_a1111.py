"""Features of A1111, turned on by requests and options that other hosts may have, too."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from PIL import Image

from tests.host.neighbours.neighbour import ASIDE, Neighbour, Payload, named, on_a1111
from tests.host.plot import plot
from tests.host.webui import HIRES, WebUI, encoded

LARGE = {"width": 512, "height": 512, "steps": 2}


def network(part: str) -> Callable[[WebUI], Payload]:
    """A prompt with the host's first LoRA or LyCORIS file that has `part` in its name."""

    def request(webui: WebUI) -> Payload:
        answer = webui.get("/sdapi/v1/loras")
        names = [lora["name"] for lora in answer.json()] if answer.status_code == 200 else []
        return {"prompt": f"a cat <lora:{named(names, part, 'network')}:1>"}

    return request


def hypernetwork(webui: WebUI) -> Payload:
    if not webui.is_a1111 and not webui.is_ersatz:
        pytest.skip("the Forge family, ersatzForge apart, never applies hypernetworks")
    answer = webui.get("/sdapi/v1/hypernetworks")
    names = [found["name"] for found in answer.json()] if answer.status_code == 200 else []
    if not names:
        pytest.skip("this WebUI has no hypernetwork")
    return {"prompt": f"a cat <hypernet:{names[0]}:1>"}


def soft_mask() -> Payload:
    """A mask that increases from nothing at the left edge to full repainting at the right."""
    mask = Image.linear_gradient("L").rotate(90)
    return {
        "mask": encoded(mask),
        "inpainting_fill": 1,
        "inpaint_full_res": False,
        "alwayson_scripts": {"soft inpainting": {"args": [True, 1, 0.5, 4, 0, 0.5, 2]}},
    }


def plot_of_checkpoints(webui: WebUI) -> Payload:
    """An X/Y/Z plot over the loaded checkpoint and another one whose name begins with the loaded one's name."""
    titles = [title.split(".")[0] for title in webui.get("/todo-probe/checkpoints").json()]
    loaded = webui.get("/sdapi/v1/options").json()["sd_model_checkpoint"].split(".")[0]
    other = next((title for title in titles if title.startswith(loaded) and title != loaded), None)
    if other is None:
        pytest.skip(f"this WebUI has no second checkpoint whose name begins with {loaded!r}")
    return plot(webui, "Checkpoint name", f"{other},{loaded}")


NEIGHBOURS = [
    Neighbour("LoRA", "built in", request=network("lora")),
    Neighbour("LoRA, applied on the fly", "A1111", request=network("lora"), options={"lora_functional": True}),
    Neighbour("LyCORIS LoHa", "built in", request=network("loha")),
    Neighbour("LyCORIS LoKr", "built in", request=network("lokr")),
    Neighbour("hypernetwork", "A1111", request=hypernetwork),
    Neighbour("soft inpainting", "built in", script="soft inpainting", request=soft_mask(), from_image=True),
    Neighbour(
        "HyperTile",
        "A1111",
        request=on_a1111(LARGE),
        options={"hypertile_enable_unet": True},
        left_whole="tiled",
    ),
    Neighbour(
        "HyperTile (hires only)",
        "A1111",
        request=on_a1111({**HIRES, "hr_scale": 2, "steps": 2}),
        options={"hypertile_enable_unet_secondpass": True},
        left_whole="tiled",
    ),
    Neighbour(
        "token merging",
        "A1111",
        request=on_a1111({}),
        options={"token_merging_ratio": 0.5},
        outcome=ASIDE,
        left_whole="merged",
    ),
    Neighbour(
        "token merging (hires only)",
        "A1111",
        request=on_a1111(HIRES),
        options={"token_merging_ratio_hr": 0.5},
        left_whole="merged",
    ),
    Neighbour("X/Y/Z over checkpoints", "built in", script="x/y/z plot", request=plot_of_checkpoints),
]
