"""`python -m docs.generate.sheets`: the sheets in the guide, as the WebUI draws them, of the embedded model's images.

Not part of `make docs`: the seconds on them differ from run to run.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from typing import Any

from matplotlib import font_manager
from PIL import Image, ImageFont

from benchmarks.environment import now
from benchmarks.sampling import Request, Sampling
from benchmarks.tiny.model import TinyModel, load
from benchmarks.tiny.sampler import decode, sample
from docs.generate import ROOT
from todo import Settings, patched
from todo.webui.compare import choice, pair
from todo.webui.compare.column import Column, with_fidelity

REQUEST = Request("a cup of coffee", (4,), (256, 256), Sampling(25, "dpm++ 2m", guidance=5.0))
RATIOS, CHOSEN = (1.5, 2, 3, 4), 2


def main() -> int:
    """Returns the exit status."""
    model = load()
    sample(model, replace(REQUEST, sampling=Sampling(1)))  # the very first call also sets up what all need
    others = [ratio for ratio in RATIOS if ratio != CHOSEN]
    columns = with_fidelity([_column(model, ratio) for ratio in (CHOSEN, None, *others)])
    todo, dense = columns[:2]
    _save(pair.draw([replace(todo, label="ToDo"), dense], _font), "compare.jpg")
    _save(choice.draw(columns, _font), "choose.jpg")
    return 0


def _column(model: TinyModel, ratio: float | None) -> Column:
    """Images at a ratio at all levels; None is dense."""
    settings = Settings(factor=ratio, deep_factor=ratio) if ratio else None
    clock = now(model.device)
    with patched(model.unet, settings) if settings else nullcontext() as patch:
        start = clock()
        latents = sample(model, REQUEST, patch)
        seconds = clock() - start
    images = [Image.fromarray((image * 255).round().astype("uint8")) for image in decode(model, latents)]
    label = f"ratio {ratio:g}" if ratio else "dense"
    return Column(label, settings, ratio == CHOSEN, images, (), REQUEST.seeds, REQUEST.seeds, seconds)


@cache
def _font(size: int) -> Any:
    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)


def _save(sheet: Image.Image, name: str) -> None:
    path = ROOT / "docs" / name
    sheet.save(path, quality=90)
    print(path)


if __name__ == "__main__":
    sys.exit(main())
