"""Which requests from the API or the page are accepted, and what happens to all others."""

from __future__ import annotations

import json

import pytest
import torch

from tests.standin import host as standin
from tests.unit.small_models import hook_counts

POSITIONS = (
    "enabled",
    *("mode", "grid", "factor", "deep_factor", "max_downsample", "method", "phase"),
    *("start", "end", "taper", "passes", "hires_factor", "controlnet"),
    "compare",
)


def short(host, *args, **fields):
    """A generation of one step."""
    return host.generate(*args, **{"steps": 1, **fields})


@pytest.fixture(scope="module")
def dense(running_host):
    """The latents that every refused request must give."""
    running_host.use_checkpoint(standin.CHECKPOINT)
    return short(running_host).latents


def asked(host, *args):
    """The settings of a generation that differ from the defaults; None if ToDo is off."""
    p = host.p(list(args), steps=1)
    host.scripts.scripts_txt2img.process(p)
    state = p.todo_generation
    if state is None:
        return None
    defaults = host.Settings().to_dict()
    return {name: value for name, value in state.settings.to_dict().items() if value != defaults[name]}


# --- accepted


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], None),
        ([False], None),
        (["false"], None),
        ([None], None),
        ([{"enabled": False}], None),
        ([{"enabled": "False"}], None),
        ([{"enabled": False, "factor": 3}], None),
        ([True], {}),
        (["true"], {}),
        ([{}], {}),
        ([{"enabled": None}], {}),
        ([{"enabled": True}], {}),
        ([{"factor": 3}], {"mode": "manual", "factor": 3.0}),
        ([{"factor": "3.5", "deep_factor": None}], {"mode": "manual", "factor": 3.5}),
        ([{"grid": "32"}], {"grid": 32}),
        ([{"grid": 32.0, "max_downsample": "2"}], {"grid": 32, "max_downsample": 2}),
        ([{"mode": "auto", "factor": 3}], {"factor": 3.0}),
        ([{"taper": "True", "end": "0.5"}], {"taper": True, "end": 0.5}),
        ([True, "manual"], {"mode": "manual"}),
        ([True, "manual", 64, 3], {"mode": "manual", "grid": 64, "factor": 3.0}),
        ([True, "manual", None, "3"], {"mode": "manual", "factor": 3.0}),
        ([True, None, 32], {"grid": 32}),
        (["true", "auto", "32"], {"grid": 32}),
    ],
    ids=str,
)
def test_a_request_is_accepted(host, args, expected):
    assert asked(host, *args) == expected


def test_a_dict_and_a_list_are_equivalent(host):
    values = [True, "manual", 48, 3.0, 2.0, 2, "nearest-exact", "fixed", 0.25, 0.75, True, "first", 4.0, False, True]
    assert asked(host, *values) == asked(host, dict(zip(POSITIONS, values, strict=True)))


def test_the_list_follows_the_controls(host):
    assert host.names == POSITIONS


def test_values_after_a_dict_are_ignored(host):
    assert asked(host, {"grid": 32}, "nonsense", object()) == {"grid": 32}


def test_more_values_than_controls_are_ignored(host):
    request = host.ours("webui.request")
    assert request.requested([True, *[None] * 14, "extra", "more"], {}) is not None


# --- refused

REFUSED = [
    ([{"factor": 0.5}], "factor"),
    ([{"factor": 8.25}], "factor"),
    ([{"factor": "two"}], "factor"),
    ([{"factor": ""}], "factor"),
    ([{"factor": True}], "factor"),
    ([{"factor": [2]}], "factor"),
    ([{"factor": {"first": 2}}], "factor"),
    ([{"factor": float("nan")}], "factor"),
    ([{"factor": float("inf")}], "factor"),
    ([{"factor": 10**400}], "factor"),
    ([{"mode": "Auto"}], "mode"),
    ([{"mode": 1}], "mode"),
    ([{"mode": ["auto"]}], "mode"),
    ([{"grid": 15}], "grid"),
    ([{"grid": 129}], "grid"),
    ([{"grid": 63.5}], "grid"),
    ([{"grid": -(10**30)}], "grid"),
    ([{"deep_factor": 0}], "deep_factor"),
    ([{"max_downsample": 3}], "max_downsample"),
    ([{"max_downsample": "half"}], "max_downsample"),
    ([{"method": "lanczos"}], "method"),
    ([{"method": 0}], "method"),
    ([{"phase": "random"}], "phase"),
    ([{"start": -0.1}], "start"),
    ([{"start": 0.8, "end": 0.2}], "start"),
    ([{"end": 1.5}], "end"),
    ([{"end": False}], "end"),
    ([{"taper": 2}], "taper"),
    ([{"taper": "yes"}], "taper"),
    ([{"passes": "second"}], "passes"),
    ([{"hires_factor": 9}], "hires_factor"),
    ([{"compare": 2}], "compare"),
    ([{"compare": "sometimes"}], "compare"),
    ([{"enabled": 2}], "enabled"),
    ([{"enabled": "on"}], "enabled"),
    ([{"enabled": []}], "enabled"),
    ([{"Factor": 2}], "Factor"),
    ([{"ratio": 2}], "ratio"),
    ([{"": 2}], ""),
    ([{"grid": 64, "factor": 2}], "mode"),
    ([2], "enabled"),
    (["maybe"], "enabled"),
    ([[True]], "enabled"),
    ([True, "sometimes"], "mode"),
    ([True, "auto", "many"], "grid"),
    ([True, "manual", 64, 99], "factor"),
    ([True, "auto", 64, 2, 1, 1, "nearest", "cycle", 0, 1, "half"], "taper"),
]


@pytest.mark.parametrize(("args", "field"), REFUSED, ids=lambda given: str(given)[:60])
def test_an_invalid_request_gives_a_dense_image_and_an_error(host, dense, args, field):
    seen = []
    host.script_callbacks.on_cfg_denoiser(lambda _: seen.append(hook_counts(host.unet)))
    outcome = short(host, *args)
    assert torch.equal(outcome.latents, dense)
    assert seen == [{}]
    assert list(outcome.ours) == ["ToDo error"]
    message = outcome.ours["ToDo error"]
    request = host.ours("webui.request")
    labels = {knob.name: knob.label for knob in (*host.knobs.values(), request.ENABLED, request.COMPARE)}
    assert message.startswith(f"{field if isinstance(args[0], dict) else labels[field]}: ")
    assert outcome.processed.comments == f"ToDo error: {message}\n"
    assert host.log.at("ERROR") == [f"ToDo error: {message}"]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("facter", "factor"), ("max_downsampling", "max_downsample"), ("Mode", "mode"), ("enable", "enabled")],
)
def test_an_unknown_name_gets_a_suggestion(host, name, nearest):
    message = short(host, {name: 2}).ours["ToDo error"]
    assert message.startswith(f"{name}: ")
    assert message.endswith(f"did you mean {nearest}?")


@pytest.mark.parametrize(
    "payload",
    [{"method": "x" * 10**6}, {"x" * 10**4: 1}, {"factor": "9" * 5000}, {"method": ["x"] * 10**5}],
    ids=["value", "name", "number", "list"],
)
def test_an_error_message_has_a_limited_length(host, payload):
    assert len(short(host, payload).ours["ToDo error"]) < 300


@pytest.mark.parametrize("payload", [{"bad\nname": 1}, {"method": "a\nb"}, {"bad\x1b[2Jname": 1}])
def test_an_error_message_is_one_printable_line(host, payload):
    message = short(host, payload).ours["ToDo error"]
    assert message.isprintable()


@pytest.mark.parametrize("payload", [{"method": "a, b: c"}, {"method": '"'}, {"a, b": 1}, {"512x512": 1}], ids=str)
def test_an_error_message_can_be_read_from_the_infotext(host, payload):
    outcome = short(host, payload)
    parsed = host.infotext_utils.parse_generation_parameters(outcome.processed.info)
    assert parsed["ToDo error"] == outcome.ours["ToDo error"]


def test_an_error_does_not_affect_the_next_generation(host):
    p = host.p([{"factor": 99}], steps=1)
    host.run(p)
    p.script_args = host.p([{"factor": 2}], steps=1).script_args
    assert host.run(p).ours["ToDo"] == "manual"


# --- off means off


@pytest.mark.parametrize(
    "args", [[], [False], [{"enabled": False}], [{"enabled": False, "ratio": 2}], [False, "manual", 16, 8]], ids=str
)
def test_off_writes_nothing(host, dense, args):
    outcome = short(host, *args)
    assert torch.equal(outcome.latents, dense)
    assert "ToDo" not in outcome.processed.info
    assert outcome.processed.comments == ""
    assert host.log.records == []


def generations(extension):
    """Latents and infotexts from a host with ToDo off, or without the extension."""
    kinds = {
        "StableDiffusionProcessingTxt2Img": {"steps": 2, "n_iter": 2, "enable_hr": True},
        "StableDiffusionProcessingImg2Img": {"steps": 2, "batch_size": 2, "sampler_name": "Heun"},
    }
    results = []
    with standin.running(extension=extension) as started:
        for kind, fields in kinds.items():
            p = getattr(started.processing, kind)(seed=11, **fields)
            p.scripts = started.scripts.scripts_txt2img
            p.script_args = [getattr(control, "value", None) for control in p.scripts.inputs]
            outcome = started.run(p)
            results.append((outcome.latents, outcome.processed.infotexts))
    return results


def test_off_is_bit_identical_to_a_host_without_the_extension():
    for (plain, plain_text), (off, text) in zip(generations(False), generations(True), strict=True):
        assert torch.equal(plain, off)
        assert plain_text == text


def test_a_json_payload_is_accepted(host):
    payload = json.loads('{"args": [{"mode": "manual", "factor": 4, "phase": "fixed"}]}')
    expected = {"ToDo": "manual", "ToDo factor": "4", "ToDo phase": "fixed"}
    assert expected.items() <= short(host, *payload["args"]).ours.items()
