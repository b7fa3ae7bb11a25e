"""The answers to the live line."""

from __future__ import annotations

import json

import pytest

from tests.standin import models
from tests.standin.host import CHECKPOINT

SIZE = {"width": 1024, "height": 1024}
KEPT = ["keeps {} of keys/values", "14 %"]


@pytest.fixture
def ask(host):
    def question(*passes, batch=1, **changed):
        names = host.names
        defaults = [control.value for control in host.script().controls]
        values = [changed.get(name, default) for name, default in zip(names, defaults, strict=True)]
        sizes = json.dumps({"id": 7, "batch": batch, "passes": passes or [SIZE]})
        return json.loads(host.ours("webui.live").answer(sizes, values))

    return question


@pytest.fixture
def measured(host):
    """Stores a measurement of a pass with some settings."""

    def remember(times, batch=1, hires=False, **settings):
        size = host.ours("webui.passes").Pass(1024, 1024, batch, hires)
        host.ours("webui.measure.remembered").remember(size, host.Settings(**settings), times)

    yield remember
    host.ours("webui.measure.remembered")._speed_ups.clear()


def test_it_names_the_checkpoint_and_repeats_the_id(ask):
    answer = ask()
    assert (answer["id"], answer["checkpoint"]) == (7, CHECKPOINT)
    assert answer["passes"] == [{"size": "1024×1024", "hires": False, "parts": [["up to {}× faster", "1.6"], KEPT]}]


def test_the_hires_pass_has_its_own_answer(ask):
    first, second = ask({"width": 512, "height": 512}, SIZE, passes="hires")["passes"]
    assert (first["parts"], first["hires"]) == ([["no effect in this pass"]], False)
    assert (second["parts"][1], second["hires"]) == (KEPT, True)


def test_a_wrong_value_is_told_once_by_its_label(ask):
    answer = ask(SIZE, SIZE, mode="manual", factor=99)
    assert "passes" not in answer
    assert answer["problem"].startswith("Downsample ratio (per side): 99 is not allowed")
    assert ask(start=0.6, end=0.2)["problem"].startswith("Steps: from 0.6 is after Steps: to 0.2")
    assert ask({"width": 5, "height": 512})["problem"].startswith("Width: 5 is not allowed")


def test_a_measured_figure_takes_the_place_of_the_predicted_one(ask, measured):
    measured(1.78, grid=48)
    assert ask()["passes"][0]["parts"] == [["measured {}× faster", "1.78"], KEPT]
    # Knobs of the other mode do not count.
    assert ask(factor=5)["passes"][0]["parts"][0] == ["measured {}× faster", "1.78"]


def test_what_is_slower_than_dense_is_said_so(ask, measured):
    measured(0.8)
    assert ask()["passes"][0]["parts"][0] == ["measured {}× slower", "1.25"]


def test_the_number_of_steps_counts(ask, measured):
    """In few steps, more is kept; whether they are few is what the time of a step depends on."""
    measured(1.78)
    assert ask({**SIZE, "steps": 20})["passes"][0]["parts"][0] == ["measured {}× faster", "1.78"]
    few, hires = ask({**SIZE, "steps": 4}, {**SIZE, "steps": 30})["passes"]
    assert few["parts"] == [["up to {}× faster", "1.5"], ["keeps {} of keys/values", "25 %"]]
    assert hires["parts"][1] == KEPT
    small = {"width": 512, "height": 512, "steps": 4}
    text = "no effect at this size in so few steps (it acts from about {} on)"
    assert ask(small)["passes"][0]["parts"] == [[text, "640×640"]]


def test_steps_outside_the_window_count(ask, measured):
    measured(2.0)
    assert ask(end=0.5)["passes"][0]["parts"][0] == ["measured {}× faster", "1.33"]
    assert ask(taper=True)["passes"][0]["parts"][0][0] == "up to {}× faster"


@pytest.mark.parametrize(
    "other", [{"grid": 64}, {"batch": 2}, {"mode": "manual"}, {"method": "nearest-exact"}], ids=str
)
def test_it_counts_for_these_settings_only(ask, measured, other):
    measured(1.78)
    assert ask(**other)["passes"][0]["parts"][0][0] == "up to {}× faster"


def test_it_counts_for_this_checkpoint_and_attention_only(host, ask, measured, monkeypatch):
    measured(1.78)
    monkeypatch.setattr(host.shared.opts, "cross_attention_optimization", "sub-quadratic", raising=False)
    assert ask()["passes"][0]["parts"][0][0] == "up to {}× faster"
    monkeypatch.undo()
    host.add_checkpoint("another", models.shared(models.LoadedModel, host.unet))
    host.use_checkpoint("another")
    assert ask()["passes"][0]["parts"][0][0] == "up to {}× faster"


def test_another_kind_of_model_and_none(host, ask):
    host.add_checkpoint("sd3", models.shared(lambda unet: models.LoadedModel(unet, "sd3"), models.FusedUNet()))
    host.use_checkpoint("sd3")
    assert ask()["passes"][0]["parts"] == [["no effect on {} (ToDo is for SD1/SD2/SDXL)", "LoadedModel"]]
    host.sd_models.model_data.set_sd_model(None)
    answer = ask()
    assert answer["checkpoint"] is None
    assert answer["passes"][0]["parts"] == [["no model is loaded yet"]]
