"""Requests that turn on the built-in scripts of the Forge family, as far as its hosts agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw

from tests.host.neighbours.neighbour import DENSE, Neighbour, Payload, named, only_on
from tests.host.webui import HIRES, WebUI, encoded

KOHYA = "kohya hrfix integrated"
TILES = "multidiffusion integrated"
CONTROLNET = "controlnet"
FREEU = "freeu integrated (sd 1.x, sd 2.x, sdxl)"
STYLEALIGN = "stylealign integrated"
STRIDE = "token_merging_stride"
NEVER_OOM = "never oom integrated"
THRESHOLDING = "dynamicthresholding (cfg-fix) integrated"
THRESHOLDS = (4.0, 0.9, "Constant", 0.0, "Constant", 0.0, 1.0, "enable", "MEAN", "AD", 1.0)
TILED = ("MultiDiffusion", "Mixture of Diffusers")
"""Methods of tiled diffusion."""

WIDE = {"width": 512, "height": 256, "steps": 2}


@dataclass(frozen=True)
class Host:
    """A host of the family. A script may have other arguments on other hosts, so each request is for one host only."""

    name: str
    is_it: Callable[[WebUI], bool]

    def only(self, payload: Payload | Callable[[WebUI], Payload]) -> Callable[[WebUI], Payload]:
        """The payload, for this host only."""
        return only_on(self.name, self.is_it, payload)

    def script(self, title: str, *arguments: Any, **payload: Any) -> Callable[[WebUI], Payload]:
        """A request with an always-on script."""
        return self.only(always_on(title, *arguments, **payload))

    def common(self, *without: str) -> list[Neighbour]:
        """The neighbours that all hosts have with the same arguments, except those in `without`."""
        return [neighbour for neighbour in self._common() if neighbour.name not in without]

    def _common(self) -> list[Neighbour]:
        return [
            *self.kohya(KOHYA),
            Neighbour("token merging", self.name, request=self.only({}), options={"token_merging_ratio": 0.5}),
            Neighbour(
                "token merging (hires only)",
                self.name,
                request=self.only(HIRES),
                options={"token_merging_ratio_hr": 0.5},
            ),
            *(
                Neighbour(f"ControlNet ({name})", self.name, script=CONTROLNET, request=self.only(request))
                for name, request in {
                    "residual": control("tiny-control"),
                    "control-LoRA": control("control-lora"),
                    "T2I adapter": control("adapter"),
                    "LLLite": control("lllite"),
                    "two units": control("control", "control-lora"),
                    "hires fix": control("tiny-control", **HIRES),
                }.items()
            ),
            *(
                Neighbour(f"ControlNet {name}", self.name, script=CONTROLNET, request=self.only(request))
                for name, request in {
                    "reference_only": reference("reference_only"),
                    "reference_adain": reference("reference_adain"),
                    "reference_adain+attn": reference("reference_adain+attn"),
                    "reference_only (hires fix)": reference("reference_only", **HIRES),
                }.items()
            ),
        ]

    def kohya(self, title: str, *more: Any) -> list[Neighbour]:
        """Kohya HRFix within the UNet, and at its finest level."""
        deep = self.script(title, True, 3, 2.0, 0.0, 0.5, True, "bicubic", "bicubic", *more, **WIDE)
        finest = self.script(title, True, 1, 1.7, 0.0, 0.5, False, "bicubic", "bicubic", *more, **WIDE)
        return [
            Neighbour("Kohya HRFix", self.name, script=title, request=deep),
            Neighbour("Kohya HRFix (finest level)", self.name, script=title, request=finest),
        ]

    def free_u(self) -> Neighbour:
        return Neighbour(
            "FreeU", self.name, script=FREEU, request=self.script(FREEU, True, 1.3, 1.4, 0.9, 0.2, 0.0, 1.0)
        )

    def style_align(self) -> list[Neighbour]:
        """StyleAlign at its full strength, and at half of it."""
        return [
            Neighbour(name, self.name, script=STYLEALIGN, request=self.script(STYLEALIGN, True, strength, batch_size=2))
            for name, strength in {"StyleAlign": 1.0, "StyleAlign (half)": 0.5}.items()
        ]

    def merging_with_stride(self) -> Neighbour:
        """Token merging at two levels and with a larger stride."""
        options = {"token_merging_ratio": 0.5, "token_merging_downsample": 2, STRIDE: 4}
        name = "token merging (two levels, stride 4)"
        return Neighbour(name, self.name, request=self.only({}), options=options)

    def tiles(self, method: str, *more: Any, from_image: bool = False) -> Neighbour:
        """A method of tiled diffusion. Some hosts have it in img2img only."""
        request = self.only(tiles(method, *more))
        return Neighbour(method, self.name, script=TILES, request=request, from_image=from_image)

    def control_in_tiles(self, method: str, *more: Any, from_image: bool = False) -> Neighbour:
        """A ControlNet with tiled diffusion."""
        request = self.only(control("tiny-control", **tiles(method, *more)))
        name = f"ControlNet in tiles ({method})"
        return Neighbour(name, self.name, script=TILES, request=request, from_image=from_image)

    def never_oom(self, *more: Any) -> Neighbour:
        """Offloading, which does not change the image."""
        request = self.script(NEVER_OOM, True, False, *more)
        return Neighbour("Never OOM", self.name, script=NEVER_OOM, request=request, outcome=DENSE)


def always_on(title: str, *arguments: Any, **payload: Any) -> dict[str, Any]:
    """A payload with an always-on script."""
    scripts = {**payload.get("alwayson_scripts", {}), title: {"args": list(arguments)}}
    return {**payload, "alwayson_scripts": scripts}


def tiles(method: str, *more: Any) -> dict[str, Any]:
    """An image of two tiles and their overlap."""
    return always_on(TILES, True, method, 256, 256, 64, 2, *more, **WIDE)


def reference(module: str, **payload: Any) -> Payload:
    """ControlNet with a reference preprocessor. With weight 2 it acts in blocks of any number of channels."""
    unit = {"module": module, "image": drawing(), "weight": 2.0, "threshold_a": 0.5, "save_detected_map": False}
    return always_on(CONTROLNET, unit, **payload)


def control(*models: str, **payload: Any) -> Callable[[WebUI], Payload]:
    """ControlNet with a unit for each of `models`, which are parts of the names of control models."""

    def request(webui: WebUI) -> Payload:
        names = webui.get("/controlnet/model_list").json()["model_list"]
        units = []
        for part in models:
            name = named(names, part, "control model")
            units.append({"module": "None", "model": name, "image": drawing(), "save_detected_map": False})
        return always_on(CONTROLNET, *units, **payload)

    return request


def drawing() -> str:
    """A control image: white lines on black."""
    image = Image.new("RGB", (256, 256))
    draw = ImageDraw.Draw(image)
    draw.ellipse((40, 40, 200, 180), outline="white", width=5)
    draw.line((0, 255, 255, 60), fill="white", width=5)
    return encoded(image)
