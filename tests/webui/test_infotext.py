"""Infotext: what is written, and that it is read back unchanged."""

from __future__ import annotations

import dataclasses
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture(scope="module")
def table(running_host):
    """The properties of the API's schema, by name."""
    return running_host.Settings.schema()["properties"]


def value_of(row):
    if "enum" in row:
        return st.sampled_from(row["enum"])
    if row["type"] == "boolean":
        return st.booleans()
    numbers = {"integer": st.integers, "number": st.floats}[row["type"]]
    return numbers(row["minimum"], row["maximum"])


def draw_settings(host, table, data):
    values = {name: data.draw(value_of(row), label=name) for name, row in table.items()}
    values["start"], values["end"] = sorted((values["start"], values["end"]))
    return host.Settings(**values)


def acting(host, settings):
    """The values of the settings; those of the other mode are their defaults."""
    knobs = host.knobs
    return {
        name: value if knobs[name].mode in (None, settings.mode) else knobs[name].default
        for name, value in settings.to_dict().items()
    }


def through_the_host(host, parameters):
    """The parameters after the host has written them, among others, and parsed them again."""
    p = host.p(prompt="a, b: c", negative_prompt="d")
    p.extra_generation_params = {"Before": "1, 2", **parameters, "After": "x: y"}
    return host.infotext_utils.parse_generation_parameters(host.processing.create_infotext(p))


def read(host, parameters):
    return {name: reader(parameters) for name, reader in host.ours("webui.infotext").READERS.items()}


def on_page(table, values):
    """The values as the page's controls hold them: choices are text."""
    return {name: str(value) if "enum" in table.get(name, ()) else value for name, value in values.items()}


@given(data=st.data())
def test_all_settings_are_read_back(running_host, table, data):
    settings = draw_settings(running_host, table, data)
    parameters = running_host.ours("webui.infotext").write(settings)
    values = read(running_host, through_the_host(running_host, parameters))
    assert values.pop("enabled") is True
    assert values == on_page(table, acting(running_host, settings))


@given(data=st.data())
def test_what_acts_in_the_mode_is_written(running_host, table, data):
    settings = draw_settings(running_host, table, data)
    written = running_host.ours("webui.infotext").write(settings)
    other = {"auto": {"ToDo factor", "ToDo deep factor", "ToDo hires factor"}, "manual": {"ToDo grid"}}[settings.mode]
    knobs = running_host.knobs.values()
    assert set(written) == {"ToDo version", *(knob.infotext for knob in knobs)} - other
    assert written["ToDo"] == settings.mode
    assert all(isinstance(value, str) for value in written.values())


@given(data=st.data())
def test_the_api_can_convert_each_value_to_the_type_of_its_control(running_host, table, data):
    # The host converts the result of a field's function to type(component.value).
    settings = draw_settings(running_host, table, data)
    parameters = through_the_host(running_host, running_host.ours("webui.infotext").write(settings))
    expected = {"enabled": True, **on_page(table, acting(running_host, settings))}
    for (control, reader), name in zip(running_host.script().infotext_fields, expected, strict=True):
        value = reader(parameters)
        kind = type(control.value)
        assert isinstance(value, kind)
        assert kind(value) == value == expected[name]


def test_the_settings_of_a_generation_are_read_back(host, table):
    wanted = {"mode": "manual", "factor": 2.5, "max_downsample": 2, "end": 0.6, "taper": True}
    outcome = host.generate(wanted, steps=1)
    values = read(host, host.infotext_utils.parse_generation_parameters(outcome.processed.info))
    assert {name: values[name] for name in wanted} == on_page(table, wanted)


def test_what_an_earlier_image_noted_is_gone(host):
    """All images of an X/Y/Z plot share the dict of parameters."""
    shared = host.generate({"factor": 1}, steps=1).p.extra_generation_params
    assert "ToDo effect" in shared
    p = host.p([False], extra_generation_params=shared)
    p.scripts.before_process(p)
    assert shared == {}


def test_numbers_are_written_as_a_person_would(host):
    settings = host.Settings
    written = host.ours("webui.infotext").write(settings(factor=2, end=0.6))
    assert (written["ToDo factor"], written["ToDo start"], written["ToDo end"]) == ("2", "0", "0.6")


def test_an_image_comes_back_whatever_later_defaults_are(host, table, monkeypatch):
    """Defaults change from version to version. The same keys/values are picked all the same, to the bit."""
    size = {"width": 640, "height": 640, "steps": 2}
    before = host.generate({}, **size)
    parameters = host.infotext_utils.parse_generation_parameters(before.processed.info)
    knobs, later = host.knobs, {"grid": 32, "method": "nearest-exact", "phase": "fixed", "end": 0.5}
    for name, default in {**later, "max_downsample": 1, "passes": "hires", "taper": True}.items():
        monkeypatch.setitem(knobs, name, dataclasses.replace(knobs[name], default=default))
    other = host.generate({}, **size)
    values = {name: value for name, value in read(host, parameters).items() if name != "enabled"}
    again = host.generate(values, **size)
    assert torch.equal(again.latents, before.latents)
    assert not torch.equal(other.latents, before.latents)


def test_an_image_without_todo_switches_it_off_and_leaves_the_other_controls(host):
    values = read(host, {"Steps": "20", "ToDo factor": "3"})
    assert values.pop("enabled") is False
    assert set(values.values()) == {None}


def test_missing_keys_reset_their_controls_to_the_defaults(host):
    values = read(host, {"ToDo": "manual"})
    assert values["factor"] == 2.0
    assert values["passes"] == "both"
    assert values["mode"] == "manual"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"ToDo": "none"}, "Mode: 'none' is not allowed; it must be one of auto, manual"),
        ({"ToDo": "bogus", "ToDo grid": "9999"}, "Mode: 'bogus' is not allowed"),
        ({"ToDo grid": "64.5"}, "Keys/values kept per side: '64.5' is not allowed"),
        ({"ToDo factor": "99"}, "Downsample ratio (per side): '99' is not allowed; it must be a number from 1 to 8"),
        ({"ToDo max downsample": "3"}, "Max downsample (resolution): '3' is not allowed"),
        ({"ToDo method": "lanczos"}, "Method: 'lanczos' is not allowed"),
        ({"ToDo taper": "2"}, "Taper: '2' is not allowed; it must be true or false"),
        ({"ToDo start": "0.8", "ToDo end": "0.3"}, "0.8 is after"),
    ],
    ids=str,
)
def test_of_what_has_a_wrong_value_nothing_is_pasted(host, parameters, message):
    with pytest.warns(UserWarning, match=re.escape(message)):  # gradio's way where no page has asked
        values = read(host, {"ToDo": "manual", "ToDo end": "0.5", **parameters})
    assert set(values.values()) == {None}
    (warning,) = host.log.at("WARNING")
    assert warning.startswith("ToDo was not pasted: ")
    assert message in warning


def test_an_invalid_value_is_no_error_for_the_host(host):
    wrong = {"ToDo": "512x512", "ToDo factor": "many", "ToDo grid": "", "ToDo taper": "perhaps"}
    fields = host.script().infotext_fields
    with pytest.warns(UserWarning, match="ToDo was not pasted"):
        values = [reader(wrong) for _, reader in fields]
    for (control, _), value in zip(fields, values, strict=True):
        assert value is None or isinstance(value, type(control.value))


def test_both_tabs_share_the_fields_that_are_sent_from_one_to_the_other(host):
    txt2img, img2img = host.script("txt2img"), host.script("img2img")
    assert [reader for _, reader in txt2img.infotext_fields] == txt2img.paste_field_names
    assert txt2img.paste_field_names == img2img.paste_field_names
    assert [control for control, _ in txt2img.infotext_fields] == txt2img.controls[:-1]  # without the option to compare


def test_the_host_parses_our_keys(host):
    knobs = host.knobs.values()
    parameters = {knob.infotext: str(index) for index, knob in enumerate(knobs)}
    assert len(parameters) == len(knobs)
    parsed = through_the_host(host, parameters)
    assert {key: parsed[key] for key in parameters} == parameters


def test_reasons_need_no_quotes(host):
    """The host quotes values with commas, colons and newlines, which is harder to read."""
    modules = (host.ours("report"), host.ours("schedule"))
    reasons = [value for module in modules for name, value in vars(module).items() if name.isupper()]
    assert len([reason for reason in reasons if isinstance(reason, str)]) > 8
    assert not [reason for reason in reasons if isinstance(reason, str) and any(mark in reason for mark in ",:\n")]
