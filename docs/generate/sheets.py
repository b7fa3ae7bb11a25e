"""`make pictures`: the pictures of the embedded model's images. `python -m docs.generate.sheets NAME ...` makes some.

demo     docs/demo.jpg: dense, the default, and their difference
page     docs/compare.jpg and docs/choose.jpg: the WebUI's sheets

Not part of `make docs`: the seconds on them differ from run to run, and are worth something on a quiet machine only.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from matplotlib import font_manager
from PIL import Image, ImageFont

from benchmarks import demo, interrupt, style
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
REQUEST = Request("a cup of coffee", (4,), (256, 256), PUBLISHED)
RATIOS, CHOSEN = (1.5, 2, 3, 4), 2


def main(names: list[str]) -> int:
    """Makes the pictures of the given names, or all, and returns the exit status."""
    makers = {"demo": demo_picture, "page": page_pictures}
    model = begin()
    for name in names or makers:
        for path in makers[name](model):
            print(path)
    return 0


def demo_picture(model: TinyImageModel) -> list[Path]:
    """What `python -m benchmarks demo` draws, with the default's share of keys/values."""
    panels = demo.with_settings(Settings(grid=kept_of_trained(KNOBS["grid"].default)))
    made = list(score(model, REQUEST, panels.values(), perceptual=False))
    figure = demo.sheet("the embedded model", REQUEST, panels, made)
    style.save(lambda: figure, DOCS / "demo.jpg", dpi=90)
    return [DOCS / "demo.jpg"]


def page_pictures(model: TinyImageModel) -> list[Path]:
    """The sheets as the page draws them: a pair, and a choice of ratios at all levels."""
    model.sample(replace(REQUEST, sampling=Sampling(1)))  # the very first call also sets up what all need
    others = [ratio for ratio in RATIOS if ratio != CHOSEN]
    columns = with_fidelity([_column(model, ratio) for ratio in (CHOSEN, None, *others)])
    todo, dense = columns[:2]
    sheets = {
        "compare.jpg": pair.draw([replace(todo, label="ToDo"), dense], _font),
        "choose.jpg": choice.draw(columns, _font),
    }
    for name, sheet in sheets.items():
        sheet.save(DOCS / name, quality=90)
    return [DOCS / name for name in sheets]


def _column(model: TinyImageModel, ratio: float | None) -> Column:
    """Images at a ratio at all levels; None is dense."""
    settings = Settings(factor=ratio, deep_factor=ratio) if ratio else None
    clock = now(model.device)
    with patched(model.unet, settings) if settings else nullcontext() as patch:
        start = clock()
        latents = model.sample(REQUEST, patch)
        seconds = clock() - start
    images = [_image(pixels) for pixels in model.decode(latents)]
    label = f"ratio {ratio:g}" if ratio else "dense"
    return Column(label, settings, ratio == CHOSEN, images, (), REQUEST.seeds, REQUEST.seeds, seconds)


@cache
def _font(size: int) -> Any:
    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)


def _image(pixels: Any) -> Image.Image:
    return Image.fromarray((pixels.clip(0, 1) * 255).round().astype("uint8"))


if __name__ == "__main__":
    sys.exit(interrupt.run(lambda: main(sys.argv[1:])))
