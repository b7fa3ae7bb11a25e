"""Infotext: what is written, and that it is read back unchanged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture(scope="module")
def table(running_host):
    """The properties of the API's schema, by name."""
    return running_host.ours("settings").Settings.schema()["properties"]


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
    return host.ours("settings").Settings(**values)


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
    assert values == on_page(table, settings.to_dict())


@given(data=st.data())
def test_only_what_differs_from_the_first_defaults_is_written(running_host, table, data):
    """In mode auto, a missing number of keys/values per side means 64, whatever the default is today."""
    settings = draw_settings(running_host, table, data)
    written = running_host.ours("webui.infotext").write(settings)
    first = {name: row["default"] for name, row in table.items()}
    if settings.mode == "auto":
        first["grid"] = 64
    changed = sum(value != first[name] for name, value in settings.to_dict().items() if name != "mode")
    assert len(written) == 1 + changed
    assert written["ToDo"] == settings.mode
    assert all(key == "ToDo" or key.startswith("ToDo ") for key in written)
    assert all(isinstance(value, str) for value in written.values())


@given(data=st.data())
def test_the_api_can_convert_each_value_to_the_type_of_its_control(running_host, table, data):
    # The host converts the result of a field's function to type(component.value).
    settings = draw_settings(running_host, table, data)
    parameters = through_the_host(running_host, running_host.ours("webui.infotext").write(settings))
    expected = {"enabled": True, **on_page(table, settings.to_dict())}
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


def test_the_first_defaults_need_one_key_only(host):
    settings = host.ours("settings").Settings
    write = host.ours("webui.infotext").write
    assert write(settings(grid=64)) == {"ToDo": "auto"}
    assert write(settings()) == {"ToDo": "auto", "ToDo grid": "48"}
    assert write(settings(mode="manual")) == {"ToDo": "manual"}


@pytest.mark.parametrize(
    ("parameters", "grid"),
    [
        ({"ToDo": "auto"}, 64),
        ({"ToDo": "auto", "ToDo max downsample": "1"}, 64),
        ({"ToDo": "auto", "ToDo grid": "48"}, 48),
        ({"ToDo": "manual"}, 48),
    ],
)
def test_infotexts_keep_their_meaning(host, parameters, grid):
    """Images from when 64 was the default have no key for it. In mode manual it does not act."""
    assert read(host, parameters)["grid"] == grid


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
    ("key", "value", "name"),
    [
        ("ToDo", "none", "mode"),
        ("ToDo grid", "64.5", "grid"),
        ("ToDo factor", "99", "factor"),
        ("ToDo max downsample", "3", "max_downsample"),
        ("ToDo method", "lanczos", "method"),
        ("ToDo taper", "2", "taper"),
    ],
)
def test_an_invalid_value_is_ignored_with_a_warning(host, key, value, name):
    values = read(host, {"ToDo": "manual", "ToDo end": "0.5", key: value})
    assert values.pop(name) is None
    assert values["end"] == 0.5
    assert None not in values.values()
    (warning,) = host.log.at("WARNING")
    assert name in warning


def test_an_invalid_value_is_no_error_for_the_host(host):
    for control, reader in host.script().infotext_fields:
        value = reader({"ToDo": "512x512", "ToDo factor": "many", "ToDo grid": "", "ToDo taper": "perhaps"})
        assert value is None or isinstance(value, type(control.value))


def test_both_tabs_share_the_fields_that_are_sent_from_one_to_the_other(host):
    txt2img, img2img = host.script("txt2img"), host.script("img2img")
    assert [reader for _, reader in txt2img.infotext_fields] == txt2img.paste_field_names
    assert txt2img.paste_field_names == img2img.paste_field_names
    assert [control for control, _ in txt2img.infotext_fields] == txt2img.controls[:-1]  # without the option to compare


def test_the_host_parses_our_keys(host):
    knobs = host.ours("settings").KNOBS.values()
    parameters = {knob.infotext: str(index) for index, knob in enumerate(knobs)}
    assert len(parameters) == len(knobs)
    parsed = through_the_host(host, parameters)
    assert {key: parsed[key] for key in parameters} == parameters


def test_reasons_need_no_quotes():
    """The host quotes values with commas, colons and newlines, which is harder to read."""
    from todo import report, schedule

    reasons = [value for module in (report, schedule) for name, value in vars(module).items() if name.isupper()]
    assert len([reason for reason in reasons if isinstance(reason, str)]) > 8
    assert not [reason for reason in reasons if isinstance(reason, str) and any(mark in reason for mark in ",:\n")]
