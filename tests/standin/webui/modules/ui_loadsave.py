"""Settings → Defaults: values of controls that the user saves, and that the host restores when it builds the page."""

import json
from pathlib import Path

import gradio as gr

from modules.ui_components import InputAccordion


def labels(control):
    """The labels of a control's choices. Saved values are compared with these, not with the values of the choices."""
    return [choice[0] if isinstance(choice, tuple) else choice for choice in getattr(control, "choices", None) or []]


class UiLoadsave:
    def __init__(self, filename):
        self.file = Path(filename)
        self.saved = json.loads(self.file.read_text(encoding="utf8")) if self.file.is_file() else {}
        self.controls = {}

    def add_block(self, block, path):
        """Restores the controls in a block, and remembers them."""
        if hasattr(block, "children"):
            for child in block.children:
                self.add_block(child, path)
        elif block.label is not None:
            self._add(block, f"{path}/{block.label}")

    def _add(self, control, path):
        kind = type(control)
        known = (gr.Slider, gr.Radio, gr.Checkbox, gr.Dropdown, gr.Textbox, gr.Number)
        if kind in (*known, gr.Button) and control.visible:
            self._field(control, path, "visible")
        if kind in (gr.Radio, gr.Dropdown):
            # Only a dropdown is told of what was restored.
            told = getattr(control, "init_field", None) if kind is gr.Dropdown else None
            self._field(control, path, "value", labels(control), told)
        elif kind in (*known, InputAccordion):
            self._field(control, path, "value")
        if kind is gr.Slider:
            for name in ("minimum", "maximum", "step"):
                self._field(control, path, name)

    def _field(self, control, path, name, allowed=None, told=None):
        key = f"{path}/{name}"
        value = self.saved.setdefault(key, getattr(control, name))
        if allowed is None or value in allowed:
            setattr(control, name, value)
            if told:
                told(value)
        if name == "value":
            self.controls.setdefault(key, control)

    def dump_defaults(self):
        self.file.write_text(json.dumps(self.saved), encoding="utf8")

    def ui_apply(self, *values):
        """Saves the values that the page sends, in the order of the controls."""
        saved = json.loads(self.file.read_text(encoding="utf8"))
        for (key, control), value in zip(self.controls.items(), values, strict=True):
            names = labels(control)
            # A number is taken for the index of a choice, and ignored if there are not so many.
            if isinstance(value, int) and names:
                if value >= len(names):
                    continue
                value = names[value]
            saved[key] = value
        self.file.write_text(json.dumps(saved), encoding="utf8")
