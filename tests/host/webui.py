"""A client for the API of a running WebUI, with default parameters for these tests."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

ARTIFACTS = Path(os.environ.get("TODO_ARTIFACTS", "artifacts"))
"""The folder for images that are worth a look."""

SMALL = {"prompt": "a cat", "seed": 7, "steps": 4, "width": 256, "height": 256, "cfg_scale": 5, "sampler_name": "Euler"}
HIRES = {"enable_hr": True, "hr_upscaler": "Latent", "hr_scale": 1.5, "denoising_strength": 0.6}


def encoded(image: Image.Image) -> str:
    """An image as payloads need it."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@dataclass(frozen=True)
class Result:
    """The answer to a request: the images, and what the host says of them."""

    images: list[Image.Image]
    info: dict[str, Any]

    @property
    def infotexts(self) -> list[str]:
        return self.info["infotexts"]

    @property
    def infotext(self) -> str:
        return self.infotexts[0]

    @property
    def sha(self) -> list[str]:
        # Without the alpha channel, in which Forge hides the infotext of a grid, with the time.
        return [hashlib.sha256(image.convert("RGB").tobytes()).hexdigest() for image in self.images]


class WebUI:
    """A running host. In its methods, `todo` holds the arguments for ToDo's script; None omits the script."""

    def __init__(self, url: str):
        self.url = url.rstrip("/")
        # Forge closes a connection after a failed request, so no connection is used twice.
        self.http = httpx.Client(base_url=self.url, timeout=600, headers={"Connection": "close"})

    @cached_property
    def is_forge(self) -> bool:
        return "forge_preset" in self.get("/sdapi/v1/options").json()

    @cached_property
    def is_a1111(self) -> bool:
        """Whether the host is A1111. Hosts of the Forge family have options of the same names."""
        return not self.get("/todo-probe/about").json()["forge_family"]

    @cached_property
    def reads_infotext(self) -> bool:
        """Whether the API accepts infotext, as it does since WebUI 1.8. reForge for gradio 4 fails at every one."""
        schemas = self.get("/openapi.json").json()["components"]["schemas"]
        if "infotext" not in schemas["StableDiffusionProcessingTxt2Img"]["properties"]:
            return False
        return self.post("txt2img", infotext="a cat\nSteps: 1", styles=[], steps=1).status_code == 200

    @cached_property
    def latent_upscalers(self) -> list[str]:
        """The names of the upscalers of latents. Forge Neo has none, those of ersatzForge have other names, and both
        fail at a name that they lack."""
        return [mode["name"] for mode in self.get("/sdapi/v1/latent-upscale-modes").json()]

    @cached_property
    def is_neo(self) -> bool:
        """Forge Neo, which has options of Forge and of Classic."""
        return self.is_forge and "token_merging_stride" in self.get("/sdapi/v1/options").json()

    @cached_property
    def is_ersatz(self) -> bool:
        """ersatzForge, which has the titles of Forge with other arguments."""
        return "the colour of noise" in self.scripts

    @cached_property
    def samplers(self) -> set[str]:
        answer = self.get("/sdapi/v1/samplers")
        # reForge for gradio 4 answers 500, with the list in the error.
        found = answer.json() if answer.status_code == 200 else answer.json()["body"]
        return {sampler["name"] for sampler in found}

    @cached_property
    def scripts(self) -> set[str]:
        """The titles of all scripts in the API, always-on or selectable, in lower case."""
        answer = self.get("/sdapi/v1/scripts").json()
        return {title.lower() for titles in answer.values() for title in titles}

    def txt2img(self, todo: list[Any] | None = None, **payload: Any) -> Result:
        return self._generate("txt2img", todo, payload)

    def img2img(self, image: Image.Image, todo: list[Any] | None = None, **payload: Any) -> Result:
        return self._generate("img2img", todo, {"init_images": [encoded(image)], "denoising_strength": 0.5, **payload})

    def post(self, route: str, todo: list[Any] | None = None, **payload: Any) -> httpx.Response:
        payload = {**SMALL, **payload}
        if self.is_forge and payload.get("enable_hr"):
            payload["hr_additional_modules"] = ["Use same choices"]  # Forge fails on hires fix without it
        if payload.get("hr_upscaler") == "Latent" and "Latent" not in self.latent_upscalers:
            payload["hr_upscaler"] = next(iter(self.latent_upscalers), "None")
        if todo is not None:
            payload["alwayson_scripts"] = {**payload.get("alwayson_scripts", {}), "todo": {"args": todo}}
        return self.http.post(f"/sdapi/v1/{route}", json=payload)

    def get(self, path: str, **query: Any) -> httpx.Response:
        return self.http.get(path, params=query)

    def _generate(self, route: str, todo: list[Any] | None, payload: dict[str, Any]) -> Result:
        response = self.post(route, todo, **payload)
        assert response.status_code == 200, response.text[:2000]
        answer = response.json()
        images = [Image.open(io.BytesIO(base64.b64decode(image))) for image in answer["images"]]
        return Result(images, json.loads(answer["info"]))
