"""Every control keeps its value through Settings → Defaults → Apply → Reload UI."""

from __future__ import annotations

import json

import gradio as gr
import pytest

TABS = ("txt2img", "img2img")


@pytest.fixture
def build(host, tmp_path):
    """Builds our page, restored from the file of saved defaults as by the host. Returns its controls and the saver."""

    def page(tab):
        from modules import ui_loadsave

        with gr.Blocks() as blocks:
            script = type(host.script(tab))()
            script.is_img2img = tab == "img2img"
            controls = dict(zip(host.names, script.ui(script.is_img2img), strict=True))
        saver = ui_loadsave.UiLoadsave(tmp_path / "ui-config.json")
        saver.add_block(blocks, tab)
        saver.dump_defaults()
        return controls, saver

    return page


def page_value(control, value):
    """What the page sends for a value: its text for a choice, and a whole number without a point."""
    if isinstance(control, gr.Radio | gr.Dropdown):
        return control.preprocess(str(value))
    return int(value) if isinstance(value, float) and value == int(value) else value


def other_values(host):
    """Values that are allowed, by name. Every choice is among them."""
    knobs = host.knobs
    values = {name: knob.choices or (knob.minimum, knob.maximum) for name, knob in knobs.items()}
    switches = {name: (True, False) for name, knob in knobs.items() if knob.kind is bool}
    return {"enabled": (True, False), **values, **switches, "compare": host.ours("webui.request").COMPARE.choices}


@pytest.mark.parametrize("tab", TABS)
def test_each_value_of_each_control_is_restored(host, build, tab):
    parse = {"enabled": bool, "compare": str, **{name: k.parse for name, k in host.knobs.items()}}
    for name, values in other_values(host).items():
        for value in values:
            controls, saver = build(tab)
            sent = [
                page_value(control, value if control is controls[name] else control.value)
                for control in saver.controls.values()
            ]
            saver.ui_apply(*sent)
            restored, _ = build(tab)
            assert parse[name](restored[name].value) == value, name
            # The browser selects a choice only if it is exactly one of them.
            choices = getattr(restored[name], "choices", None) or []
            assert not choices or restored[name].value in [c[1] if isinstance(c, tuple) else c for c in choices], name


@pytest.mark.parametrize(("saved", "restored"), [("1", 1), ("2", 2), ("4", 4), ("8", 8), (1, 4), (4, 4), (3, 4)])
def test_max_downsample_as_saved_by_earlier_versions(host, build, tmp_path, saved, restored):
    """They wrote their default as a number, which no version could restore, and a choice as text."""
    key = f"txt2img/{host.knobs['max_downsample'].label}/value"
    (tmp_path / "ui-config.json").write_text(json.dumps({key: saved}), encoding="utf8")
    controls, _ = build("txt2img")
    assert controls["max_downsample"].value == str(restored)


def test_a_restored_mode_shows_its_controls(host, build, tmp_path):
    key = f"txt2img/{host.knobs['mode'].label}/value"
    build("txt2img")
    saved = json.loads((tmp_path / "ui-config.json").read_text(encoding="utf8"))
    (tmp_path / "ui-config.json").write_text(json.dumps({**saved, key: "manual"}), encoding="utf8")
    controls, _ = build("txt2img")
    assert controls["factor"].visible
    assert controls["deep_factor"].visible
    assert not controls["grid"].visible
