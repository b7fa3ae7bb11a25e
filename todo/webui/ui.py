"""The accordion: one control for each row of the table, in the same order, the live line and the measurement."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr
from modules.ui_components import InputAccordion

from ..settings import KNOBS, Knob
from . import measure
from .infotext import READERS, page_value
from .request import COMPARE, ENABLED

ROWS = (
    ("mode", "grid"),
    ("factor", "deep_factor"),
    ("max_downsample", "method"),
    ("phase",),
    ("start", "end"),
    ("taper", "passes"),
    ("hires_factor", "controlnet"),
)


MEASURE = "Measure on this GPU"
STOP = "Stop measuring"

_NO_PROGRESS = gr.Progress()
"""A parameter with this default receives gradio's progress bar."""


@dataclass(frozen=True)
class Page:
    """What the host's Script needs: the controls in order, and functions that fill them from generation parameters."""

    controls: list[Any]
    infotext_fields: list[tuple[Any, Callable[[dict[str, Any]], Any]]]
    paste_field_names: list[Any]


def build(elem_id: Callable[[str], str], tab: str) -> Page:
    """Creates the accordion of one tab. `elem_id` returns the id on the page for a control's name."""
    controls: dict[str, Any] = {}
    accordion = InputAccordion(ENABLED.default, label=ENABLED.label, elem_id=elem_id(ENABLED.name))
    controls[ENABLED.name] = accordion
    with accordion:
        for row in ROWS:
            with gr.Row():
                for name in row:
                    controls[name] = _control(KNOBS[name], elem_id(name))
        controls[COMPARE.name] = _control(COMPARE, elem_id(COMPARE.name))
        gr.HTML(_live_line(elem_id, tab), elem_id=elem_id("live"))
        _add_measuring(list(controls.values()), elem_id, tab)
    _show_mode(controls)
    return Page(
        controls=list(controls.values()),
        infotext_fields=[(controls[name], reader) for name, reader in READERS.items()],
        paste_field_names=list(READERS.values()),
    )


def _control(knob: Knob, elem_id: str) -> Any:
    common: dict[str, Any] = {"label": knob.label, "info": knob.help, "value": knob.default, "elem_id": elem_id}
    common["visible"] = knob.mode in (None, KNOBS["mode"].default)
    if knob.kind is bool:
        return gr.Checkbox(**common)
    if not knob.choices:
        return gr.Slider(minimum=knob.minimum, maximum=knob.maximum, step=knob.step, **common)
    # Text, also for numbers: the host takes a number for the index of a choice when it saves the user's defaults.
    common["value"] = page_value(knob, knob.default)
    # The mode must be a Dropdown: only for those does the host call `init_field` when it restores a saved default.
    return (gr.Dropdown if knob.kind is str else gr.Radio)(choices=[str(choice) for choice in knob.choices], **common)


def _add_measuring(controls: list[Any], elem_id: Callable[[str], str], tab: str) -> None:
    """The button that starts a measurement, the button that stops it, and the result."""
    with gr.Row():
        start = gr.Button(MEASURE, elem_id=elem_id("measure"))
        stop = gr.Button(STOP, elem_id=elem_id("stop"))
    sizes = gr.Textbox(visible=False, elem_id=elem_id("sizes"))
    result = gr.HTML(elem_id=elem_id("measured"))

    def run(sizes_json: str, progress: Any = _NO_PROGRESS, *values: Any) -> str:
        return measure.measure(sizes_json, values, progress)

    # The browser knows the image sizes. It puts them into the first input.
    with_sizes = f"(_, ...values) => [todoSizes({json.dumps(tab)}), ...values]"
    start.click(run, _js=with_sizes, inputs=[sizes, *controls], outputs=[result], api_name=False)
    stop.click(measure.stop, queue=False, api_name=False)


def _show_mode(controls: dict[str, Any]) -> None:
    """Shows the controls of the selected mode and hides those of the other."""
    names = [name for name, knob in KNOBS.items() if knob.mode]

    def update(mode: str) -> list[Any]:
        return [gr.update(visible=KNOBS[name].mode == mode) for name in names]

    def init_field(mode: str) -> None:
        for name in names:
            controls[name].visible = KNOBS[name].mode == mode

    outputs = [controls[name] for name in names]
    controls["mode"].change(update, inputs=[controls["mode"]], outputs=outputs, show_progress="hidden")
    controls["mode"].init_field = init_field


def _live_line(elem_id: Callable[[str], str], tab: str) -> str:
    """An empty line with the data that the browser's script needs to fill it: the tab, and the element of each knob."""
    where = {name: {"id": elem_id(name), "choices": [str(c) for c in knob.choices]} for name, knob in KNOBS.items()}
    knobs = html.escape(json.dumps(where))
    return f'<div class="todo-live" style="padding: 0.5em 0" data-tab="{tab}" data-knobs="{knobs}"></div>'
