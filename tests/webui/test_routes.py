"""The routes, with requests as from a browser."""

from __future__ import annotations

import json
import time

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from gradio.routes import App

from tests.standin import models
from tests.standin.host import CHECKPOINT, small_unet

SIZE = {"width": 1024, "height": 1024}


@pytest.fixture
def client(host):
    app = FastAPI()
    host.script_callbacks.app_started_callback(None, app)
    with TestClient(app) as started:
        yield started


@pytest.fixture
def plan(client):
    def ask(**query):
        return client.get("/todo/v1/plan", params={**SIZE, **query})

    return ask


def refused(answer):
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(f"{answer.json()['field']}: ")
    return answer.json()["field"]


def test_the_schema_is_that_of_an_api_payload(client, host):
    schema = client.get("/todo/v1/schema").json()
    assert tuple(schema["properties"]) == host.names
    assert schema["additionalProperties"] is False
    assert schema["properties"]["enabled"]["default"] is True
    assert all(row["title"] and row["description"] for row in schema["properties"].values())
    defaults = {name: row["default"] for name, row in schema["properties"].items()}
    assert host.generate(defaults, steps=1).ours["ToDo"] == "auto"


def test_a_plan_is_the_same_as_in_python(plan, host):
    todo = host.ours("prediction")
    settings = {"mode": "manual", "factor": "3", "deep_factor": "2", "max_downsample": "2", "end": "0.5"}
    for family in ("sd1", "sd2", "sdxl"):
        for hires in ("true", "false"):
            answer = plan(family=family, hires=hires, **settings)
            assert answer.status_code == 200
            expected = todo.plan(1024, 1024, host.Settings.from_dict(settings), family, hires == "true").to_dict()
            assert answer.json() == json.loads(json.dumps(expected))


def test_the_example_of_the_live_line(plan):
    assert plan(family="sd1").json()["summary"] == "1024×1024: up to 1.6× faster · keeps 14 % of keys/values"


def test_the_number_of_steps_counts(plan):
    assert plan(family="sd1", steps=4).json()["levels"][0]["factor"] == 2
    assert plan(family="sd1", steps=20).json()["levels"][0]["factor"] > 2
    assert refused(plan(family="sd1", steps="many")) == "steps"


def test_a_missing_mode_follows_from_the_other_fields(plan):
    assert plan(factor=4, family="sd1").json()["levels"][0]["factor"] == 4.0


@pytest.mark.parametrize("family", models.FAMILIES)
def test_the_family_is_the_loaded_models(plan, host, family):
    host.add_checkpoint(family, models.shared(lambda unet: models.LoadedModel(unet, family), small_unet()))
    host.use_checkpoint(family)
    answer = plan().json()
    assert answer["family"] == family


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_the_family_of_a_model_that_cannot_be_sd2(plan, host, family):
    """As in Forge Neo, whose models have no such flag. Mugen's, an SDXL UNet with another VAE, says that it is SDXL."""

    def loaded(unet):
        model = models.LoadedModel(unet, family)
        del model.is_sd2
        return model

    host.add_checkpoint(family, models.shared(loaded, small_unet()))
    host.use_checkpoint(family)
    assert plan().json()["family"] == family


def test_another_family_can_be_requested(plan):
    assert plan(family="sdxl").json()["family"] == "sdxl"


def test_another_kind_of_model_has_no_effect(plan, host):
    host.add_checkpoint("sd3", models.shared(lambda unet: models.LoadedModel(unet, "sd3"), models.FusedUNet()))
    host.use_checkpoint("sd3")
    answer = plan()
    assert answer.status_code == 200
    text = "no effect on LoadedModel (ToDo is for SD1/SD2/SDXL)"
    why = ["no effect on {} (ToDo is for SD1/SD2/SDXL)", "LoadedModel"]
    assert answer.json() == {"family": None, "why": why, "note": text, "parts": [why], "summary": text}


@pytest.mark.parametrize("placeholder", [None, object()], ids=["none", "Forge's placeholder"])
def test_a_request_before_a_model_is_loaded_does_not_load_one(plan, host, monkeypatch, placeholder):
    monkeypatch.setattr(host.sd_models.model_data, "was_loaded_at_least_once", False)
    host.sd_models.model_data.set_sd_model(placeholder)
    answer = plan()
    assert answer.status_code == 200
    assert answer.json()["note"] == "no model is loaded yet"
    assert host.model is placeholder
    assert refused(plan(width="wide")) == "width"
    assert plan(family="sd1").json()["note"] == ""


WRONG = [
    ({"width": 0}, "width"),
    ({"width": 63}, "width"),
    ({"width": 16385}, "width"),
    ({"width": -512}, "width"),
    ({"width": 10**9}, "width"),
    ({"width": "1e308"}, "width"),
    ({"width": "1e999"}, "width"),
    ({"width": "9" * 5000}, "width"),
    ({"width": ""}, "width"),
    ({"width": "nan"}, "width"),
    ({"width": "512.5"}, "width"),
    ({"height": "tall"}, "height"),
    ({"height": 10**12}, "height"),
    ({"family": "sd3"}, "family"),
    ({"family": ""}, "family"),
    ({"hires": "second"}, "hires"),
    ({"hires": 2}, "hires"),
    ({"factor": 99}, "factor"),
    ({"factor": "undefined"}, "factor"),
    ({"grid": 64.5}, "grid"),
    ({"mode": "off"}, "mode"),
    ({"method": "lanczos"}, "method"),
    ({"start": 0.9, "end": 0.1}, "start"),
    ({"grid": 64, "factor": 2}, "mode"),
    ({"taper": "on"}, "taper"),
    ({"enabled": "true"}, "enabled"),
    ({"ratio": 2}, "ratio"),
]


@pytest.mark.parametrize(("query", "field"), WRONG, ids=lambda given: str(given)[:40])
def test_an_invalid_request_is_refused_at_once_and_names_its_field(plan, query, field):
    began = time.perf_counter()
    answer = plan(**{"family": "sd1", **query})
    assert time.perf_counter() - began < 1
    assert refused(answer) == field
    assert len(answer.content) < 400


@pytest.mark.parametrize("field", ["width", "height"])
def test_what_is_missing_is_said_to_be_missing(client, field):
    size = {name: 512 for name in ("width", "height") if name != field}
    detail = client.get("/todo/v1/plan", params=size).json()["detail"]
    assert detail == f"{field}: is missing; it must be a whole number from 64 to 16384"


@pytest.mark.parametrize("field", ["enabled", "compare"])
def test_what_is_no_setting_of_a_plan_is_not_taken_for_another(plan, field):
    answer = plan(**{field: "true"})
    assert refused(answer) == field
    assert "no setting of a plan" in answer.json()["detail"]


def test_the_largest_size_takes_no_time(plan):
    began = time.perf_counter()
    assert plan(width=16384, height=16384, family="sdxl").status_code == 200
    assert time.perf_counter() - began < 1


def test_requests_change_nothing(plan, host):
    before = host.generate({"factor": 2}).latents
    plan(factor=4)
    plan(factor=99)
    assert (host.generate({"factor": 2}).latents == before).all()
    assert len(host.log.records) == 2


def test_without_a_login_a_visitor_learns_no_more_than_the_models_family(host):
    """The host asks for a login at gradio's own routes, but not at those of extensions."""
    app = App.create_app(host.demo)
    app.auth, app.auth_message = {"user": "secret"}, None
    before = list(app.routes)
    host.script_callbacks.app_started_callback(host.demo, app)
    ours = [route for route in app.routes if route not in before]
    assert {(route.path, *route.methods) for route in ours} == {("/todo/v1/schema", "GET"), ("/todo/v1/plan", "GET")}
    visitor = TestClient(app)
    answers = [visitor.get("/todo/v1/schema"), visitor.get("/todo/v1/plan", params=SIZE)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert not any(CHECKPOINT.partition(".")[0] in answer.text for answer in answers)
    assert answers[1].json()["family"] == "sd1"
    # What the page can start or learn is behind the login: measuring, and the answer to the live line.
    assert len(host.demo.dependencies) > 4
    for index in range(len(host.demo.dependencies)):
        asked = visitor.post("/run/predict", json={"fn_index": index, "data": [], "session_hash": "x"})
        assert asked.status_code == 401


def test_the_routes_exist_after_a_reload(own_host):
    own_host.reload()
    app = FastAPI()
    own_host.script_callbacks.app_started_callback(None, app)
    assert TestClient(app).get("/todo/v1/schema").status_code == 200
