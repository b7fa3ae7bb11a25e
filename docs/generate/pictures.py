"""`make pictures`: the pictures in the documents. `python -m docs.generate.pictures NAME ...` makes some.

demo     docs/demo.jpg: dense, the default, and their difference, by the embedded model
sheets   docs/compare.jpg and docs/choose.jpg: the WebUI's sheets, of its images
webui    docs/accordion.png and docs/measure.png: the page of the WebUI at SD_WEBUI_URL
comfyui  docs/comfyui.png: the node on the page of the ComfyUI at COMFYUI_URL

Not part of `make docs`: the seconds on them differ from run to run, and are worth something on a quiet machine only.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from matplotlib import font_manager
from PIL import ImageFont

from benchmarks import demo, interrupt, output, style
from benchmarks.environment import now
from benchmarks.fidelity.methods import kept_of_trained
from benchmarks.fidelity.run import begin
from benchmarks.fidelity.scores import score
from benchmarks.sampling import PUBLISHED, Request, Sampling
from benchmarks.tiny.sampler import TinyImageModel
from docs.generate import ROOT
from todo import Settings, patched
from todo.settings import KNOBS
from todo.webui.compare import choice, pair
from todo.webui.compare.column import Column, with_fidelity

DOCS = ROOT / "docs"
REQUEST = Request("a rocket", (0,), (256, 256), PUBLISHED)
CHOSEN, OTHERS = 48, (64, 40, 32)
"""Keys/values kept per side of SD1.5. Of the embedded model the same share is kept."""


def main(names: list[str]) -> int:
    """Makes the pictures of the given names, or all that can be made here, and returns the exit status."""
    makers = {
        "demo": demo_picture,
        "sheets": sheets,
        **({"webui": webui_pictures} if "SD_WEBUI_URL" in os.environ else {}),
        **({"comfyui": comfyui_picture} if "COMFYUI_URL" in os.environ else {}),
    }
    for name in names or makers:
        for path in makers[name]():
            print(path)
    return 0


def demo_picture() -> list[Path]:
    """What `python -m benchmarks demo` draws, with the default's share of keys/values."""
    panels = demo.with_settings(Settings(grid=kept_of_trained(KNOBS["grid"].default)))
    made = list(score(begin(), REQUEST, panels.values(), perceptual=False))
    figure = demo.sheet("the embedded model", REQUEST, panels, made)
    style.save(lambda: figure, DOCS / "demo.jpg", dpi=90)
    return [DOCS / "demo.jpg"]


def sheets() -> list[Path]:
    """The sheets as the page draws them: a pair, and a choice of keys/values kept per side."""
    model = begin()
    model.sample(replace(REQUEST, sampling=Sampling(1)))  # the very first call also sets up what all need
    columns = with_fidelity([_column(model, grid) for grid in (CHOSEN, None, *OTHERS)])
    todo, dense = columns[:2]
    drawn = {
        "compare.jpg": pair.draw([replace(todo, label="ToDo"), dense], _font),
        "choose.jpg": choice.draw(columns, _font),
    }
    for name, sheet in drawn.items():
        sheet.save(DOCS / name, quality=90)
    return [DOCS / name for name in drawn]


def _column(model: TinyImageModel, grid: int | None) -> Column:
    """Images with keys/values kept per side; None is dense."""
    settings = Settings(grid=kept_of_trained(grid)) if grid else None
    clock = now(model.device)
    with patched(model.unet, settings) if settings else nullcontext() as patch:
        start = clock()
        latents = model.sample(REQUEST, patch)
        seconds = clock() - start
    images = [output.image(pixels) for pixels in model.decode(latents)]
    label = f"{grid} per side" if grid else "dense"
    return Column(label, settings, grid == CHOSEN, images, (), REQUEST.seeds, REQUEST.seeds, seconds)


@cache
def _font(size: int) -> Any:
    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)


def webui_pictures() -> Iterator[Path]:
    """The accordion at 1024×1024, and after a measurement at 512×512."""
    todo = "#script_txt2img_todo_"
    with _page(os.environ["SD_WEBUI_URL"], 1280, 1600) as page:
        page.locator(f"{todo}enabled > .label-wrap").click()
        for side, name in ((1024, "accordion.png"), (512, "measure.png")):
            for axis in ("width", "height"):
                field = page.locator(f"#txt2img_{axis} input[type=number]").first
                field.fill(str(side))
                field.press("Tab")
            page.locator(f"{todo}live").get_by_text(f"{side}×{side}: ").first.wait_for()
            if name == "measure.png":
                page.get_by_role("button", name="Measure on this machine").first.click()
                page.get_by_text(f"{side}×{side}: dense").first.wait_for()
            page.mouse.move(0, 0)
            page.locator(f"{todo}enabled").screenshot(path=DOCS / name)
            yield DOCS / name


def comfyui_picture() -> Iterator[Path]:
    """The node between its neighbours in the example workflow, as Nodes 2.0 draws it."""
    url = os.environ["COMFYUI_URL"]
    workflow = (DOCS / "comfyui-workflow.json").read_text(encoding="utf8")
    with _page(url, 1900, 1300) as page:
        known = page.request.get(f"{url}/object_info/CheckpointLoaderSimple").json()["CheckpointLoaderSimple"]
        checkpoint = known["input"]["required"]["ckpt_name"][0][0]
        page.wait_for_function("window.app?.canvas && app.graph && app.extensionManager?.setting")
        page.evaluate("app.extensionManager.setting.set('Comfy.VueNodes.Enabled', true)")
        graph = json.loads(re.sub(r"[\w.-]+\.safetensors", checkpoint, workflow))
        page.evaluate("graph => app.loadGraphData(graph)", graph)
        nodes = [
            page.locator("[data-node-id]", has_text=title).first.bounding_box()
            for title in ("Load Checkpoint", "ToDo · Token Downsampling", "KSampler")
        ]
        page.wait_for_timeout(1000)
        left, top = (min(box[axis] for box in nodes) - 8 for axis in "xy")
        right = max(box["x"] + box["width"] for box in nodes)
        bottom = max(box["y"] + box["height"] for box in nodes)
        clip = {"x": left, "y": top, "width": right - left + 8, "height": bottom - top + 8}
        page.screenshot(path=DOCS / "comfyui.png", clip=clip)
    yield DOCS / "comfyui.png"


@contextmanager
def _page(url: str, width: int, height: int) -> Iterator[Any]:
    """A page in Chromium, which reaches no other server."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as tools:
        chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
        browser = tools.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(120_000)
        page.route("**/*", lambda route: route.continue_() if url in route.request.url else route.abort())
        page.goto(url)
        yield page
        browser.close()


if __name__ == "__main__":
    sys.exit(interrupt.run(lambda: main(sys.argv[1:])))
