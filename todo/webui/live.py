"""The live line: what ToDo would do with the values on the page, answered to the page's script.

This is an event of the page, not a route: who has to log in to see the page has to log in for this, too. So it may tell
which checkpoint is loaded and what was measured with it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..prediction import Phrase
from ..settings import Settings, SettingsError
from . import host
from .measure.remembered import recall
from .measure.result import FASTER, SLOWER, speed
from .passes import Pass, passes_on_page
from .request import message_for_page, page_settings

MEASURED_FASTER, MEASURED_SLOWER = f"measured {FASTER}", f"measured {SLOWER}"


def answer(question: str, values: Sequence[Any]) -> str:
    """The answer to the page's script, as JSON.

    Args:
        question: JSON with the image sizes as in `passes_on_page`, and an `id` that the answer repeats.
        values: the values of the page's controls.

    Returns:
        JSON with `checkpoint`, the title of the loaded one; and `passes`, each with its size and phrases, or `problem`,
        a message about a wrong value.
    """
    model = host.loaded_model()
    common = {"id": json.loads(question)["id"], "checkpoint": host.checkpoint(model) if model else None}
    try:
        settings = page_settings(values)
        passes = [
            {"size": f"{each.width}×{each.height}", "hires": each.hires, "parts": _parts(each, settings, model)}
            for each in passes_on_page(question)
        ]
    except SettingsError as error:
        return json.dumps({**common, "problem": message_for_page(error)})
    return json.dumps({**common, "passes": passes})


def _parts(current: Pass, settings: Settings, model: Any) -> list[Phrase]:
    family = host.family(model)
    if family is None:
        return [host.without_family(model)]
    predicted = current.plan(settings, family)
    speed_up = None if predicted.why else recall(current, settings)
    # What was measured is a step at the full ratio. The time of all steps follows from it, unless there is a taper.
    if not speed_up or settings.taper:
        return predicted.parts()
    inside = settings.end - settings.start
    overall = 1 / (1 - inside + inside / speed_up)
    return [speed(overall, MEASURED_FASTER, MEASURED_SLOWER), *predicted.kept()]
