"""The script as the host sees it, and its controls, without a browser."""

from __future__ import annotations

import sys
import types

import gradio as gr
import pytest
from fastapi import FastAPI

from tests.standin import host as standin

TABS = ("txt2img", "img2img")


@pytest.fixture
def knobs(host):
    return host.knobs


def controls(host, tab="txt2img"):
    return dict(zip(host.names, host.script(tab).controls, strict=True))


def test_the_host_finds_one_script(host):
    found = [data for data in host.scripts.scripts_data if data.basedir == str(standin.ROOT)]
    assert [data.script_class.__name__ for data in found] == ["ToDo"]
    assert host.script().title() == "ToDo"
    assert host.script().show(True) is host.script().show(False) is host.scripts.AlwaysVisible


def test_nothing_of_ours_is_imported_after_loading(host, tmp_path):
    assert str(standin.ROOT) not in sys.path
    before = {name for name in sys.modules if name.split(".")[0] == standin.OURS}
    host.generate({"factor": 2, "method": "nearest-exact"}, enable_hr=True)
    host.generate({"factor": "wrong"}, steps=1)
    assert {name for name in sys.modules if name.split(".")[0] == standin.OURS} == before


def test_the_controls_follow_the_table(host, knobs):
    for tab in TABS:
        assert [*controls(host, tab)] == ["enabled", *knobs, "compare"]
        assert len(host.script(tab).controls) == 2 + len(knobs)


def test_each_default_has_the_type_of_its_knob(host, knobs):
    # The API converts generation parameters to the type of the control's value.
    for tab in TABS:
        for name, control in controls(host, tab).items():
            kind = {"enabled": bool, "compare": str}.get(name) or (str if knobs[name].choices else knobs[name].kind)
            assert type(control.value) is kind, name
    assert controls(host)["enabled"].value is False


def test_saved_defaults_keep_the_type_of_their_knob(host, knobs):
    """The host reads them from JSON, in which the page has written 2 for 2.0."""
    for tab in TABS:
        for name in ("factor", "start", "hires_factor"):
            controls(host, tab)[name].value = int(knobs[name].default)
    host.script_callbacks.app_started_callback(None, FastAPI())
    test_each_default_has_the_type_of_its_knob(host, knobs)


def test_each_control_shows_its_row(host, knobs):
    for name, knob in knobs.items():
        control = controls(host)[name]
        assert control.label == knob.label
        assert control.info == knob.help
        assert knob.parse(control.value) == knob.default
        if isinstance(control, gr.Slider):
            assert (control.minimum, control.maximum, control.step) == (knob.minimum, knob.maximum, knob.step)
        elif knob.choices:
            # gradio converts the choices of a radio to pairs of label and value.
            values = [choice[1] if isinstance(choice, tuple) else choice for choice in control.choices]
            assert values == [str(choice) for choice in knob.choices]


def test_labels_and_ids_are_unique(host):
    for tab in TABS:
        labels = [control.label for control in controls(host, tab).values()]
        assert all(labels)
        assert len(labels) == len(set(labels))
    ids = [control.elem_id for tab in TABS for control in controls(host, tab).values()]
    assert len(ids) == len(set(ids))


def test_the_ids_follow_the_hosts_scheme(host, knobs):
    for tab in TABS:
        expected = {name: f"script_{tab}_todo_{name}" for name in knobs}
        assert {name: controls(host, tab)[name].elem_id for name in knobs} == expected
        assert controls(host, tab)["enabled"].elem_id == f"script_{tab}_todo_enabled-checkbox"


def test_only_the_controls_of_the_selected_mode_are_visible(host, knobs):
    visible = {name for name, control in controls(host).items() if control.visible}
    assert visible - {"compare"} == {name for name, knob in knobs.items() if knob.mode != "manual"}
    assert {name for name, knob in knobs.items() if knob.mode == "manual"} == {"factor", "deep_factor", "hires_factor"}


def test_a_saved_default_of_the_mode_shows_its_controls(host, knobs):
    # The host calls this when it restores the user's saved defaults.
    with gr.Blocks():
        script = host.scripts.scripts_data[-1].script_class()
        page = dict(zip(host.names, script.ui(False), strict=True))
    page["mode"].init_field("manual")
    assert {name for name in knobs if knobs[name].mode and page[name].visible} == {
        "factor",
        "deep_factor",
        "hires_factor",
    }


def test_the_page_can_be_built_repeatedly(host):
    before = host.generate({"factor": 2}).latents
    pages = []
    for _ in range(3):
        with gr.Blocks():
            pages.append(host.script().ui(False))
    assert [[control.elem_id for control in page] for page in pages] == [
        [control.elem_id for control in host.script().controls]
    ] * 3
    assert not set(map(id, pages[0])) & set(map(id, pages[1]))
    assert (host.generate({"factor": 2}).latents == before).all()


@pytest.mark.parametrize("name", ["todo", "todolist", "sd_webui_todo_list"])
def test_another_package_of_this_or_a_similar_name_stays_loaded(own_host, monkeypatch, name):
    foreign = types.ModuleType(name)
    monkeypatch.setitem(sys.modules, name, foreign)
    own_host.reload()
    assert sys.modules[name] is foreign
    assert own_host.generate({"factor": 2}, steps=1).ours["ToDo factor"] == "2"


@pytest.mark.parametrize("level", ["DEBUG", "WARNING", None])
def test_the_log_follows_the_level_of_the_host(own_host, level):
    own_host.shared.cmd_opts.loglevel = level
    own_host.reload()
    own_host.log.records.clear()
    own_host.generate({"factor": 2}, steps=1)
    assert len(own_host.log.records) == (0 if level == "WARNING" else 1)
