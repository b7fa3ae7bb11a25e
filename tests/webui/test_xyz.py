"""The axes in the X/Y/Z plot, wherever a host keeps the plot."""

from __future__ import annotations

from copy import copy

import pytest
import torch

from tests.standin import host as standin

SWITCH = "ToDo · Token Downsampling"


def plot_of(host):
    """The module that contains the plot."""
    (found,) = {id(d.module): d.module for d in host.scripts.scripts_data if hasattr(d.module, "axis_options")}.values()
    return found


def axes(host):
    """Our axes, by label."""
    return {option.label: option for option in plot_of(host).axis_options if "ToDo" in option.label}


def axis(host, name):
    return axes(host)[SWITCH if name == "enabled" else f"[ToDo] {host.knobs[name].label}"]


def plot(host, *chosen, args=(), **fields):
    script = next(data.script_class() for data in host.scripts.scripts_data if data.module is plot_of(host))
    p = host.p(list(args), **{"steps": 1, **fields})
    named = [(axis(host, name).label, values) for name, values in chosen]
    return p, script.run(p, *named)


def ours(host, processed):
    """Our generation parameters in the infotext of a cell. All cells share the dict that it was written from."""
    parsed = host.infotext_utils.parse_generation_parameters(processed.infotexts[0])
    return {key: value for key, value in parsed.items() if key.startswith("ToDo")}


@pytest.mark.parametrize("where", ["own", "extension"])
def test_every_knob_has_an_axis_wherever_the_plot_is(where):
    with standin.running(plot=where) as host:
        knobs = host.knobs
        assert [*axes(host)] == [SWITCH, *(f"[ToDo] {knob.label}" for knob in knobs.values())]
        host.script_callbacks.before_ui_callback()
        assert len(axes(host)) == 1 + len(knobs)
        labels = [option.label for option in plot_of(host).axis_options]
        assert len(labels) == len(set(labels))


def test_a_host_without_a_plot_is_left_alone():
    with standin.running(plot=None) as host:
        assert host.failures() == []
        assert host.generate({"factor": 2}, steps=1).ours["ToDo"] == "manual"
        assert all(record.levelname == "DEBUG" for record in host.log.records[:-1])


def test_reloading_the_page_does_not_add_the_axes_twice(own_host):
    own_host.reload()
    assert len(axes(own_host)) == 1 + len(own_host.knobs)


@pytest.mark.parametrize("value", ["abc", "16.5", "999"])
def test_a_wrong_number_says_what_is_allowed(host, value):
    with pytest.raises(ValueError, match=r"Keys/values kept per side: .* must be a whole number from 16 to 128"):
        plot(host, ("grid", [value]))


def test_numbers_are_typed_and_other_values_are_chosen_from_a_list(host):
    for name, knob in host.knobs.items():
        option = axis(host, name)
        if knob.choices or knob.kind is bool:
            assert option.type is str
            assert option.choices() == ([str(choice) for choice in knob.choices] or ["True", "False"])
            option.confirm(None, option.choices())
        else:
            # The plot compares an axis's type with int and float to decide whether ranges are read.
            assert option.type == knob.kind
            assert option.choices is None
            option.confirm(None, [knob.minimum, knob.maximum, knob.default])


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("enabled", ["True", "maybe"]),
        ("mode", ["auto", "none"]),
        ("grid", [64, 8]),
        ("factor", [2.0, 0.5]),
        ("deep_factor", [9.0]),
        ("max_downsample", ["1", "3"]),
        ("method", ["lanczos"]),
        ("phase", ["random"]),
        ("start", [-1.0]),
        ("end", [1.01]),
        ("taper", ["on"]),
        ("passes", ["third"]),
        ("hires_factor", [float("nan")]),
    ],
)
def test_an_invalid_value_stops_the_plot_before_it_begins(host, name, values):
    with pytest.raises(host.SettingsError) as caught:
        plot(host, (name, values))
    assert caught.value.field == name
    shown = axis(host, name).label.removeprefix("[ToDo] ") if name != "enabled" else "ToDo · Token Downsampling"
    assert str(caught.value).startswith(shown)


def test_a_value_only_affects_its_own_copy(host):
    base = host.p()
    axis(host, "end").apply(base, 0.5, None)
    first, second = copy(base), copy(base)
    axis(host, "factor").apply(first, 3.0, None)
    axis(host, "factor").apply(second, 4.0, None)
    overrides = [p.todo_overrides for p in (base, first, second)]
    assert overrides == [{"end": 0.5}, {"end": 0.5, "factor": 3.0}, {"end": 0.5, "factor": 4.0}]


def test_an_axis_switches_todo_on_in_the_mode_of_its_knob(host):
    _, cells = plot(host, ("factor", ["1", "3", "4"]), args=[False, "auto"])
    assert [(ours(host, cell)["ToDo"], ours(host, cell)["ToDo factor"]) for cell in cells[1:]] == [
        ("manual", "3"),
        ("manual", "4"),
    ]
    assert ours(host, cells[0])["ToDo effect"] == "none at a ratio that keeps every token"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("grid", "16", {"ToDo": "auto", "ToDo grid": "16"}),
        ("hires_factor", "2", {"ToDo": "manual", "ToDo hires factor": "2"}),
        ("method", "nearest-exact", {"ToDo": "manual", "ToDo method": "nearest-exact"}),
        ("mode", "auto", {"ToDo": "auto", "ToDo grid": "48"}),
    ],
)
def test_other_axes_keep_the_mode_of_the_page(host, name, value, expected):
    _, (cell,) = plot(host, (name, [value]), args=[True, "manual"], width=256, height=256)
    assert expected.items() <= ours(host, cell).items()


def test_two_axes_make_every_pair(host):
    _, cells = plot(host, ("factor", ["2", "4"]), ("phase", ["cycle", "fixed"]))
    pairs = [(ours(host, cell)["ToDo factor"], ours(host, cell)["ToDo phase"]) for cell in cells]
    assert pairs == [("2", "cycle"), ("2", "fixed"), ("4", "cycle"), ("4", "fixed")]


def test_the_switch_is_an_axis(host):
    _, (on, off) = plot(host, ("enabled", ["True", "False"]), args=[False, "manual", 64, 2.0])
    assert "ToDo: manual" in on.infotexts[0]
    assert "ToDo" not in off.infotexts[0]
    assert torch.equal(off.images[0].latent, host.generate(steps=1).latents[0])
    assert not torch.equal(on.images[0].latent, off.images[0].latent)


def test_the_infotext_of_a_cell_is_its_own(host):
    # The host's copies of p share the parameters of the original.
    _, cells = plot(host, ("factor", ["3", "2"]))
    assert [f"ToDo factor: {value}," in cell.infotexts[0] for cell in cells for value in (3, 2)] == [
        True, False, False, True
    ]  # fmt: skip


def test_axes_of_both_modes_contradict_each_other(host):
    _, (cell,) = plot(host, ("factor", ["2"]), ("grid", ["32"]))
    assert ours(host, cell)["ToDo error"].startswith("Mode: ")


def test_an_invalid_request_is_reported_in_each_cell(host):
    _, cells = plot(host, ("end", ["0.5", "1"]), args=[{"factor": 99}])
    assert all("ToDo error" in cell.infotexts[0] for cell in cells)


def test_nothing_stays_on_the_original(host):
    p, _ = plot(host, ("factor", ["2"]))
    assert not hasattr(p, "todo_overrides")
    assert getattr(p, "todo_generation", None) is None
