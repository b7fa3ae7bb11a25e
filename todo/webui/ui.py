"""The accordion: one control for each row of the table, the live line and the measurement."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr
from modules import script_callbacks
from modules.ui_components import InputAccordion

from ..settings import KNOBS, Knob
from . import live
from .infotext import READERS, page_value
from .measure import action
from .measure import result as results
from .request import COMPARE, ENABLED, NAMES

MORE = "More"
MEASURE = "Measure on this machine"
MEASURING = "Measuring …"
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
    # Only one tab has hires. fix.
    shown = [name for name, knob in KNOBS.items() if tab == "txt2img" or knob.place != "hires"]

    def add_rows(place: str) -> None:
        for row in _rows(place):
            with gr.Row():
                for knob in row:
                    controls[knob.name] = _control(knob, elem_id(knob.name), knob.name in shown)

    accordion = InputAccordion(ENABLED.default, label=ENABLED.label, elem_id=elem_id(ENABLED.name))
    controls[ENABLED.name] = accordion
    with accordion:
        add_rows("first")
        gr.HTML(_live_line(elem_id, tab), elem_id=elem_id("live"))
        with gr.Row():
            controls[COMPARE.name] = _control(COMPARE, elem_id(COMPARE.name))
            with gr.Column(min_width=160):
                start = gr.Button(MEASURE, elem_id=elem_id("measure"))
                stop = gr.Button(STOP, elem_id=elem_id("stop"), visible=False)
        result = gr.HTML(elem_id=elem_id("measured"))
        with gr.Accordion(MORE, open=False, elem_id=elem_id("more")):
            add_rows("more")
            add_rows("hires")
        in_order = [controls[name] for name in NAMES]
        _answer_live_line(in_order, elem_id, tab)
        _measure_on_click(start, stop, result, in_order, tab)
    _show_mode(controls, [name for name in shown if KNOBS[name].mode])
    script_callbacks.on_app_started(lambda demo, app: _keep_kinds(controls))
    return Page(
        controls=in_order,
        infotext_fields=[(controls[name], reader) for name, reader in READERS.items()],
        paste_field_names=list(READERS.values()),
    )


def _rows(place: str) -> list[list[Knob]]:
    """The knobs of a place in the table's order, two to a row. One of mode auto shares its room with one of manual."""
    rows: list[list[Knob]] = [[]]
    for knob in KNOBS.values():
        if knob.place == place:
            rows[-1].append(knob)
            if sum(each.mode != "auto" for each in rows[-1]) == 2:
                rows.append([])
    return [row for row in rows if row]


def _control(knob: Knob, elem_id: str, shown: bool = True) -> Any:
    common: dict[str, Any] = {"label": knob.label, "info": knob.help or None, "value": knob.default, "elem_id": elem_id}
    common["visible"] = shown and knob.mode in (None, KNOBS["mode"].default)
    if knob.kind is bool:
        return gr.Checkbox(**common)
    if not knob.choices:
        return gr.Slider(minimum=knob.minimum, maximum=knob.maximum, step=knob.step, **common)
    # Text, also for numbers: the host takes a number for the index of a choice when it saves the user's defaults.
    common["value"] = page_value(knob, knob.default)
    # The mode must be a Dropdown: only for those does the host call `init_field` when it restores a saved default.
    return (gr.Dropdown if knob.kind is str else gr.Radio)(choices=[str(choice) for choice in knob.choices], **common)


def _keep_kinds(controls: dict[str, Any]) -> None:
    """Gives saved defaults the type of their knobs. In JSON 2.0 may be 2, a whole number, and the host's API then turns
    every value for that control in an infotext into one: 2.5 into 2."""
    for name, knob in KNOBS.items():
        if knob.kind is float:
            controls[name].value = float(controls[name].value)


def _measure_on_click(start: Any, stop: Any, result: Any, controls: list[Any], tab: str) -> None:
    """Measures when `start` is clicked, and offers `stop` only meanwhile."""
    token, sizes = gr.Textbox(visible=False), gr.Textbox(visible=False)
    at_once: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_name": False}

    def begin() -> list[Any]:
        # gradio draws its progress bar over what the box shows. An empty box has no height to draw on.
        return [gr.update(visible=False), gr.update(visible=True), results.waiting(MEASURING), action.announce()]

    def run(announced: str, sizes_json: str, progress: Any = _NO_PROGRESS, *values: Any) -> str:
        return action.measure(sizes_json, values, progress, announced)

    def end() -> list[Any]:
        return [gr.update(visible=True), gr.update(visible=False)]

    # The browser knows the image sizes. It puts them into the second input.
    box = json.dumps(result.elem_id)
    wait = f"() => {{ todoWaiting({box}, true); return []; }}"
    with_sizes = (
        f"(token, _, ...values) => {{ todoWaiting({box}, false);"
        f" return [token, todoSizes({json.dumps(tab)}), ...values]; }}"
    )
    begun = start.click(begin, _js=wait, outputs=[start, stop, result, token], **at_once)
    done = begun.then(run, _js=with_sizes, inputs=[token, sizes, *controls], outputs=[result], api_name=False)
    done.then(end, outputs=[start, stop], **at_once)
    stop.click(action.stop, inputs=[token], queue=False, api_name=False)


def _show_mode(controls: dict[str, Any], names: list[str]) -> None:
    """Shows the controls of the selected mode and hides those of the other."""

    def update(mode: str) -> list[Any]:
        return [gr.update(visible=KNOBS[name].mode == mode) for name in names]

    def init_field(mode: str) -> None:
        for name in names:
            controls[name].visible = KNOBS[name].mode == mode

    outputs = [controls[name] for name in names]
    controls["mode"].change(update, inputs=[controls["mode"]], outputs=outputs, show_progress="hidden")
    controls["mode"].init_field = init_field


def _live_line(elem_id: Callable[[str], str], tab: str) -> str:
    """An empty line with the data that the browser's script needs to fill it: the tab, and the ids on the page."""
    ids = {name: elem_id(name) for name in (ENABLED.name, "ask", "answer", "measured")}
    where = {name: {"id": elem_id(name), "choices": [str(c) for c in knob.choices]} for name, knob in KNOBS.items()}
    data = {"tab": tab, "ids": json.dumps(ids), "knobs": json.dumps(where)}
    attributes = " ".join(f'data-{name}="{html.escape(value)}"' for name, value in data.items())
    return f'<div class="todo-live" {attributes}></div>'


def _answer_live_line(controls: list[Any], elem_id: Callable[[str], str], tab: str) -> None:
    """The hidden button that the browser's script clicks to ask for the line, and the hidden box with the answer."""
    ask = gr.Button(visible=False, elem_id=elem_id("ask"))
    question = gr.Textbox(visible=False)
    answer = gr.Textbox(visible=False, elem_id=elem_id("answer"))

    def respond(question_json: str, *values: Any) -> str:
        return live.answer(question_json, values)

    with_question = f"(_, ...values) => [todoQuestion({json.dumps(tab)}), ...values]"
    ask.click(
        respond, _js=with_question, inputs=[question, *controls], outputs=[answer],
        queue=False, show_progress="hidden", api_name=False,
    )  # fmt: skip
