"""A pass of sampling: the only one of a generation, or one of the two of hires. fix."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from ..prediction import HEIGHT, STEPS, WIDTH, Phrase, Plan, plan, text
from ..settings import Knob, Settings

BATCH_SIZE = Knob("batch", kind=int, default=1, label="Batch size", help="images per batch", minimum=1, maximum=64)

BATCH, HIRES = "batch of {}", "hires pass"


@dataclass(frozen=True)
class Pass:
    """A pass: image size in pixels, images per batch, whether it is the hires pass of hires. fix, and its sampling
    steps; 0 if they are not known."""

    width: int
    height: int
    batch: int
    hires: bool
    steps: int = 0

    def plan(self, settings: Settings, family: str) -> Plan:
        """What settings would do in it.

        Raises:
            SettingsError: `plan` does not know the size.
        """
        return plan(self.width, self.height, settings, family, self.hires, self.steps)

    def phrases(self) -> list[Phrase]:
        """What tells it from others."""
        batch: list[Phrase] = [(BATCH, str(self.batch))] if self.batch > 1 else []
        return [(f"{self.width}×{self.height}",), *batch, *([(HIRES,)] if self.hires else [])]

    def __str__(self) -> str:
        return ", ".join(map(text, self.phrases()))


def passes_on_page(sizes: str) -> Iterator[Pass]:
    """The passes of a generation from the page.

    Args:
        sizes: JSON such as {"batch": 1, "passes": [{"width": 512, "height": 512, "steps": 20}]}. A second pass is the
            hires pass.

    Raises:
        SettingsError: the image size, the batch size or the number of steps is not allowed.
    """
    page = json.loads(sizes)
    batch = BATCH_SIZE.parse(page.get(BATCH_SIZE.name))
    for index, size in enumerate(page["passes"]):
        width, height = WIDTH.parse(size["width"]), HEIGHT.parse(size["height"])
        yield Pass(width, height, batch, hires=index > 0, steps=STEPS.parse(size.get(STEPS.name)))
