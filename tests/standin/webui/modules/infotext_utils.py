"""Infotext: generation parameters written as text, parsed, and filled into controls."""

import json
import re

import gradio as gr

from modules import errors

_KEY = re.compile(r"\s*(\w[\w /-]+):\s*")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)+"')
_SIZE = re.compile(r"(\d+)x(\d+)")


def quote(text):
    """Quotes a text as JSON if it contains a comma, colon or line break."""
    return json.dumps(text, ensure_ascii=False) if re.search("[,:\n]", str(text)) else text


def unquote(text):
    return json.loads(text) if len(text) > 1 and text[0] == text[-1] == '"' else text


def parse_generation_parameters(x, skip_fields=None):
    """The values of the last line, by key. A size becomes two values."""
    line = x.strip().split("\n")[-1]
    found = {}
    at = 0
    while match := _KEY.match(line, at):
        quoted = _QUOTED.match(line, match.end())
        end = quoted.end() if quoted else line.find(",", match.end())
        end = len(line) if end < 0 else end
        value = unquote(line[match.end() : end])
        size = _SIZE.fullmatch(value)
        found.update({f"{match[1]}-{i}": size[i] for i in (1, 2)} if size else {match[1]: value})
        at = end + 1
    return {key: value for key, value in found.items() if key not in (skip_fields or ())}


def connect_paste(button, paste_fields, input_comp, override_settings_component, tabname):
    """Makes a button fill each control from the infotext: by key, or by a function of all parameters."""

    def paste(text):
        parameters = parse_generation_parameters(text)
        return [_update(control, key, parameters) for control, key in paste_fields]

    button.click(paste, inputs=[input_comp], outputs=[control for control, _ in paste_fields], show_progress=False)


def _update(control, key, parameters):
    try:
        value = key(parameters) if callable(key) else parameters.get(key)
    except Exception:
        errors.report(f"generation parameter {key}", exc_info=True)
        return gr.update()
    if value is None:
        return gr.update()
    kind = type(control.value)
    try:
        if kind is bool and value == "False":
            return gr.update(value=False)
        return gr.update(value=float(value) if kind is int else kind(value))
    except Exception:
        return gr.update()
