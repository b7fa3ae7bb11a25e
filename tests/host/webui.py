"""A client of a running WebUI's API, with the defaults of these tests."""

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
"""Where pictures to look at go."""

SMALL = {"prompt": "a cat", "seed": 7, "steps": 4, "width": 256, "height": 256, "cfg_scale": 5, "sampler_name": "Euler"}
HIRES = {"enable_hr": True, "hr_upscaler": "Latent", "hr_scale": 1.5, "denoising_strength": 0.6}


def encoded(image: Image.Image) -> str:
    """A picture as payloads have it."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@dataclass(frozen=True)
class Picture:
    """What came back: the pictures, and the parameters of the first."""

    images: list[Image.Image]
    infotext: str

    @property
    def sha(self) -> list[str]:
        # Forge hides the parameters of a grid in its alpha channel, with the time of day.
        return [hashlib.sha256(image.convert("RGB").tobytes()).hexdigest() for image in self.images]


class WebUI:
    """A running host. `todo` is what the payload's `alwayson_scripts` give to ToDo; None leaves it out."""

    def __init__(self, url: str):
        self.url = url.rstrip("/")
        # Forge drops a connection on which a request has failed, so none is used twice.
        self.http = httpx.Client(base_url=self.url, timeout=600, headers={"Connection": "close"})

    @cached_property
    def is_forge(self) -> bool:
        return "forge_preset" in self.get("/sdapi/v1/options").json()

    @cached_property
    def is_a1111(self) -> bool:
        """Whether the UNet is A1111's own, not one of the Forge family, whose hosts share its options' names."""
        return not self.get("/todo-probe/about").json()["forge_family"]

    @cached_property
    def reads_infotext(self) -> bool:
        """Whether the API takes picture parameters; it does since WebUI 1.8."""
        schemas = self.get("/openapi.json").json()["components"]["schemas"]
        return "infotext" in schemas["StableDiffusionProcessingTxt2Img"]["properties"]

    @cached_property
    def scripts(self) -> set[str]:
        """Titles of the scripts that the API knows, always-on or selectable, in lower case."""
        answer = self.get("/sdapi/v1/scripts").json()
        return {title.lower() for titles in answer.values() for title in titles}

    def txt2img(self, todo: list[Any] | None = None, **payload: Any) -> Picture:
        return self._generate("txt2img", todo, payload)

    def img2img(self, image: Image.Image, todo: list[Any] | None = None, **payload: Any) -> Picture:
        return self._generate("img2img", todo, {"init_images": [encoded(image)], "denoising_strength": 0.5, **payload})

    def post(self, route: str, todo: list[Any] | None = None, **payload: Any) -> httpx.Response:
        payload = {**SMALL, **payload}
        if self.is_forge and payload.get("enable_hr"):
            payload["hr_additional_modules"] = ["Use same choices"]  # Forge fails on hires fix without it
        if todo is not None:
            payload["alwayson_scripts"] = {**payload.get("alwayson_scripts", {}), "todo": {"args": todo}}
        return self.http.post(f"/sdapi/v1/{route}", json=payload)

    def get(self, path: str, **query: Any) -> httpx.Response:
        return self.http.get(path, params=query)

    def _generate(self, route: str, todo: list[Any] | None, payload: dict[str, Any]) -> Picture:
        response = self.post(route, todo, **payload)
        assert response.status_code == 200, response.text[:2000]
        answer = response.json()
        images = [Image.open(io.BytesIO(base64.b64decode(image))) for image in answer["images"]]
        return Picture(images, json.loads(answer["info"])["infotexts"][0])
