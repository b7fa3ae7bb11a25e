"""Settings: which values are accepted, which are refused, and the messages. The table here is the contract."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import todo
from todo import Settings, SettingsError
from todo.settings import KNOBS, Knob, with_labels

BOUNDS = {
    "grid": (16, 128),
    "factor": (1, 8),
    "deep_factor": (1, 8),
    "start": (0, 1),
    "end": (0, 1),
    "hires_factor": (0, 8),
}
CHOICES = {
    "mode": ("auto", "manual"),
    "max_downsample": (1, 2, 4, 8),
    "method": ("nearest", "nearest-exact"),
    "phase": ("fixed", "cycle"),
    "passes": ("both", "first", "hires"),
}
DEFAULTS = {
    "mode": "auto",
    "grid": 48,
    "factor": 2.0,
    "deep_factor": 1.0,
    "max_downsample": 4,
    "method": "nearest",
    "phase": "cycle",
    "start": 0.0,
    "end": 1.0,
    "taper": False,
    "passes": "both",
    "hires_factor": 0.0,
    "controlnet": True,
}
FLAGS = ("taper", "controlnet")
WHOLE = ("grid", "max_downsample")
NUMBERS = [*BOUNDS, "max_downsample"]
numeric = pytest.mark.parametrize("field", NUMBERS)


def value_of(field: str) -> st.SearchStrategy:
    if field in CHOICES:
        return st.sampled_from(CHOICES[field])
    if field in FLAGS:
        return st.booleans()
    low, high = BOUNDS[field]
    return st.integers(low, high) if field in WHOLE else st.floats(low, high)


def every_setting() -> st.SearchStrategy:
    whole = st.fixed_dictionaries({field: value_of(field) for field in DEFAULTS})
    return whole.filter(lambda values: values["start"] <= values["end"])


def refused(field: str, value) -> str:
    with pytest.raises(SettingsError) as caught:
        Settings.from_dict({field: value})
    assert caught.value.field == field
    message = str(caught.value)
    assert message.startswith(field)
    assert "\n" not in message
    assert len(message) < 300
    return message


def names_what_is_allowed(field: str, message: str) -> bool:
    if field in CHOICES:
        return all(str(choice) in message for choice in CHOICES[field])
    if field in FLAGS:
        return "true" in message and "false" in message
    return all(f" {bound}" in message for bound in BOUNDS[field])


def test_defaults_are_the_contract():
    assert Settings().to_dict() == DEFAULTS
    assert [field.name for field in dataclasses.fields(Settings)] == list(DEFAULTS)


def test_each_default_has_its_type():
    for field, value in Settings().to_dict().items():
        assert type(value) is type(DEFAULTS[field])


@pytest.mark.parametrize("field", DEFAULTS)
def test_none_is_the_default(field):
    assert getattr(Settings.from_dict({field: None}), field) == DEFAULTS[field]


@given(every_setting())
def test_every_allowed_combination_is_kept_as_given(values):
    settings = Settings(**values)
    assert settings.to_dict() == values
    assert all(type(settings.to_dict()[field]) is type(DEFAULTS[field]) for field in DEFAULTS)


@given(every_setting())
def test_round_trip_through_json(values):
    settings = Settings.from_dict(values)
    again = Settings.from_dict(json.loads(json.dumps(settings.to_dict())))
    assert again == settings
    assert hash(again) == hash(settings)


@given(every_setting())
def test_strings_stand_for_their_values(values):
    as_text = {field: str(value) for field, value in values.items()}
    assert Settings.from_dict(as_text) == Settings.from_dict(values)


@pytest.mark.parametrize("field", BOUNDS)
def test_bounds_are_inclusive_and_values_beyond_them_are_refused(field):
    low, high = BOUNDS[field]
    pair = {"start": ("end", 1), "end": ("start", 0)}.get(field, ("taper", False))
    for value in (low, high):
        settings = Settings.from_dict({field: value, pair[0]: pair[1]})
        assert getattr(settings, field) == value
    step = 1 if field in WHOLE else 1e-9
    for value in (low - step, high + step):
        message = refused(field, value)
        assert repr(value) in message
        assert names_what_is_allowed(field, message)


@given(st.sampled_from(list(BOUNDS)), st.floats())
def test_any_float_is_kept_or_refused(field, value):
    low, high = BOUNDS[field]
    others = {"start": {"end": 1}, "end": {"start": 0}}.get(field, {})
    if low <= value <= high and (field not in WHOLE or value == int(value)):
        assert getattr(Settings.from_dict({field: value, **others}), field) == value
    else:
        assert names_what_is_allowed(field, refused(field, value))


@pytest.mark.parametrize("field", CHOICES)
def test_choices(field):
    for choice in CHOICES[field]:
        assert getattr(Settings.from_dict({field: choice}), field) == choice
    for value in ("linear", "", "AUTO2", "3", 3, -1, 0):
        message = refused(field, value)
        assert repr(value) in message
        assert names_what_is_allowed(field, message)


@pytest.mark.parametrize("field", [field for field in CHOICES if field != "max_downsample"])
@pytest.mark.parametrize("value", [1, 1.0, True, ["auto"], {"auto": 1}, b"auto"])
def test_a_choice_must_be_a_string(field, value):
    assert names_what_is_allowed(field, refused(field, value))


@numeric
@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, "nan", "inf", "-inf", "1e999", "-1e999", 1e308, 10**400]
)
def test_infinite_and_huge_numbers(field, value):
    assert names_what_is_allowed(field, refused(field, value))


@numeric
def test_an_integer_too_long_for_python_to_print(field):
    assert names_what_is_allowed(field, refused(field, 10**5000))


@numeric
@pytest.mark.parametrize(
    "value", [True, False, [2], [], {"value": 2}, {}, "", " ", "two", "2,5", "0x10", b"2", 1j, object]
)
def test_numbers_of_a_wrong_type(field, value):
    assert names_what_is_allowed(field, refused(field, value))


@pytest.mark.parametrize("field", WHOLE)
def test_whole_numbers(field):
    refused(field, 2.5)
    refused(field, "16.5")
    settings = Settings.from_dict({"grid": 32.0, "max_downsample": "4"})
    assert (settings.grid, settings.max_downsample) == (32, 4)
    assert type(settings.grid) is int
    assert type(settings.max_downsample) is int


@pytest.mark.parametrize(
    ("value", "taper"),
    [(True, True), (False, False), ("true", True), ("False", False), (1, True), (0, False), ("1", True), ("0", False)],
)
def test_booleans(value, taper):
    assert Settings.from_dict({"taper": value}).taper is taper


@pytest.mark.parametrize("value", ["maybe", "", 2, 0.5, [], [True], {}, math.nan])
def test_values_that_are_not_boolean(value):
    assert names_what_is_allowed("taper", refused("taper", value))


def test_a_long_value_is_truncated_in_the_message():
    assert "x" * 200 not in refused("method", "x" * 100_000)
    assert len(refused("factor", list(range(10_000)))) < 300


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("facto", "factor"), ("deepfactor", "deep_factor"), ("max_down_sample", "max_downsample"), ("metod", "method"),
     ("Grid", "grid"), ("tapper", "taper"), ("hires_facter", "hires_factor"), ("phases", "phase")],
)  # fmt: skip
def test_an_unknown_name_gets_a_suggestion(name, nearest):
    with pytest.raises(SettingsError) as caught:
        Settings.from_dict({name: 1})
    assert name in str(caught.value)
    assert str(caught.value).rstrip("?").split()[-1] == nearest
    assert caught.value.field == name


@pytest.mark.parametrize("name", ["", "zzzzzz", "__class__", "KNOBS", 7, None])
def test_a_name_without_similar_ones_is_refused_too(name):
    with pytest.raises(SettingsError):
        Settings.from_dict({name: 1})


def test_frozen():
    settings = Settings()
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.factor = 3
    with pytest.raises((dataclasses.FrozenInstanceError, AttributeError)):
        del settings.factor


def test_an_error_is_a_value_error():
    assert issubclass(SettingsError, ValueError)
    assert todo.SettingsError is SettingsError


@pytest.mark.parametrize(
    ("values", "mode"),
    [
        ({}, "auto"),
        ({"factor": 3}, "manual"),
        ({"factor": 2}, "manual"),
        ({"deep_factor": 2}, "manual"),
        ({"hires_factor": 1.5}, "manual"),
        ({"grid": 32}, "auto"),
        ({"factor": None}, "auto"),
        ({"method": "nearest-exact", "taper": True, "max_downsample": 2}, "auto"),
        ({"mode": None, "factor": 3}, "manual"),
        ({"mode": "auto", "factor": 3}, "auto"),
        ({"mode": "manual", "grid": 32}, "manual"),
        ({"mode": "manual", "grid": 32, "factor": 2}, "manual"),
        ({"mode": "auto", "grid": 32, "factor": 2}, "auto"),
    ],
)
def test_implied_mode(values, mode):
    assert Settings.from_dict(values).mode == mode
    assert Settings(**values).mode == mode


@pytest.mark.parametrize("other", ["factor", "deep_factor", "hires_factor"])
def test_knobs_of_both_modes_need_the_mode(other):
    with pytest.raises(SettingsError) as caught:
        Settings.from_dict({"grid": 32, other: 2})
    assert caught.value.field == "mode"
    for word in ("mode", "grid", other, "auto", "manual"):
        assert word in str(caught.value)


def test_the_window_must_not_be_reversed():
    with pytest.raises(SettingsError) as caught:
        Settings(start=0.6, end=0.5)
    assert caught.value.field in ("start", "end")
    for word in ("start", "end", "0.6", "0.5"):
        assert word in str(caught.value)
    with pytest.raises(SettingsError):
        Settings.from_dict({"end": 0, "start": "0.05"})
    assert Settings(start=0.5, end=0.5).start == 0.5


def test_schema_lists_each_field_with_its_contract():
    schema = Settings.schema()
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is False
    assert list(schema["properties"]) == list(DEFAULTS)
    for field, row in schema["properties"].items():
        assert row["default"] == DEFAULTS[field]
        assert row["title"]
        assert row["description"]
        assert set(row.get("enum", ())) == set(CHOICES.get(field, ()))
        assert (row.get("minimum"), row.get("maximum")) == BOUNDS.get(field, (None, None))
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string"}
    assert {field: row["type"] for field, row in schema["properties"].items()} == {
        field: kinds[type(default)] for field, default in DEFAULTS.items()
    }
    json.dumps(schema)


def obeys(row: dict, value) -> bool:
    """Whether a JSON value is valid by a property of the schema."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    right = {
        "string": isinstance(value, str),
        "boolean": isinstance(value, bool),
        "number": number,
        "integer": number and value == int(value),
    }[row["type"]]
    if not right:
        return False
    return value in row.get("enum", [value]) and row.get("minimum", value) <= value <= row.get("maximum", value)


JSON_VALUES = st.one_of(
    st.booleans(),
    st.integers(-10, 200),
    st.floats(-10, 200, allow_nan=False),
    st.sampled_from([word for words in CHOICES.values() for word in words] + ["linear", "cycles"]),
)


@given(st.sampled_from(list(DEFAULTS)), JSON_VALUES)
def test_schema_agrees_with_what_is_accepted(field, value):
    others = {"start": {"end": 1}, "end": {"start": 0}}.get(field, {})
    if isinstance(DEFAULTS[field], bool) and value in (0, 1):
        value = bool(value)  # as a query string has it
    if obeys(Settings.schema()["properties"][field], value):
        assert getattr(Settings.from_dict({field: value, **others}), field) == value
    else:
        refused(field, value)


def test_labels_and_keys_are_distinct():
    assert len({knob.label for knob in KNOBS.values()}) == len(KNOBS)
    keys = [knob.infotext for knob in KNOBS.values()]
    assert len(set(keys)) == len(keys)
    assert keys[0] == "ToDo"
    for key in keys[1:]:
        assert key.startswith("ToDo ")
        assert not set(key) & set(',:"\n')


def test_labels_of_the_contract():
    labels = {
        "factor": "Downsample ratio (per side)",
        "deep_factor": "Ratio at deeper levels",
        "max_downsample": "Max downsample (resolution)",
        "grid": "Keys/values kept per side",
    }
    assert {field: KNOBS[field].label for field in labels} == labels
    assert (KNOBS["start"].label.split()[-1], KNOBS["end"].label.split()[-1]) == ("from", "to")


def test_places_of_the_contract():
    """The expert knobs are folded away, and those of hires. fix apart, since not every page has it."""
    places = {"more": {"method", "phase", "taper", "controlnet"}, "hires": {"passes", "hires_factor"}}
    places["first"] = set(KNOBS) - places["more"] - places["hires"]
    for place, names in places.items():
        assert {name for name, knob in KNOBS.items() if knob.place == place} == names


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"start": 0.8, "end": 0.3}, "Steps: from 0.8 is after Steps: to 0.3; it must not be greater than Steps: to"),
        ({"end": 2}, "Steps: to 2 is not allowed; it must be a number from 0 to 1"),
        ({"factor": 99}, "Downsample ratio (per side): 99 is not allowed; it must be a number from 1 to 8"),
        ({"speed": 1}, "speed: unknown setting; did you mean end?"),
    ],
)
def test_a_page_speaks_of_labels(values, message):
    with pytest.raises(SettingsError) as caught:
        Settings.from_dict(values)
    assert with_labels(caught.value) == message


def test_a_page_has_labels_of_its_own():
    speed = Knob("speed", kind=int, default=1, label="How fast", help="", minimum=1, maximum=2)
    with pytest.raises(SettingsError) as caught:
        speed.parse(3)
    assert with_labels(caught.value).startswith("speed: 3")
    assert with_labels(caught.value, speed).startswith("How fast: 3")
