"""Each translation has exactly the strings that the page shows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from tests.standin import models
from tests.standin.host import ROOT

FILES = sorted((ROOT / "localizations").glob("*.json"))


@pytest.fixture
def shown(host):
    """All strings on the page: labels, help texts and the texts of the live line."""
    knobs = host.knobs.values()
    words = {host.script().controls[0].label, "hires pass"}
    words |= {knob.label for knob in knobs} | {knob.help for knob in knobs}
    compare, page = host.ours("webui.request").COMPARE, host.ours("webui.ui")
    words |= {compare.label, *compare.choices, page.MEASURE, page.MEASURING, page.STOP, page.MORE}
    answer = host.ours("webui.measure.result")
    words |= {answer.DENSE, answer.TODO, answer.FASTER, answer.SLOWER, answer.EXPECTED, answer.MEMORY, answer.TOO_LARGE}
    words |= {answer.DENSE_TOO_LARGE, answer.TODO_TOO_LARGE, answer.RANGE, answer.UNSTEADY, answer.ROUGH}
    words |= {host.ours("webui.passes").BATCH, host.ours("webui.passes").HIRES}
    words |= {"dense", "ratio {}", "{} per side", host.ours("webui.measure.action").STOPPED}
    live = host.ours("webui.live")
    return words | {live.MEASURED_FASTER, live.MEASURED_SLOWER} | live_words(host)


def live_words(host):
    app = FastAPI()
    host.script_callbacks.app_started_callback(None, app)
    client = TestClient(app)
    words = set()

    def ask(**query):
        answer = client.get("/todo/v1/plan", params={"width": 1024, "height": 1024, **query}).json()
        words.update(text for text, *_ in answer["parts"])

    for passes in ("both", "first", "hires"):
        for size in (448, 2048):
            for end in (0, 0.5, 1):
                for deep in (1, 2):
                    ask(width=size, height=size, passes=passes, end=end, max_downsample=deep)
    ask(width=448, height=448, steps=4)
    ask(mode="manual", factor=1)
    host.add_checkpoint("sd3", models.shared(lambda unet: models.LoadedModel(unet, "sd3"), models.FusedUNet()))
    host.use_checkpoint("sd3")
    ask()
    host.sd_models.model_data.set_sd_model(None)
    ask()
    return words


def test_the_live_line_uses_all_these_texts(shown):
    assert {
        "up to {}× faster",
        "keeps {} of keys/values",
        "steps {}",
        "no effect at this size (it acts from about {} on)",
        "no effect at this size in so few steps (it acts from about {} on)",
        "no effect at a ratio that keeps every token",
        "no effect in this pass",
        "no effect with an empty step window",
        "no effect on {} (ToDo is for SD1/SD2/SDXL)",
        "no model is loaded yet",
    } <= shown


def test_the_browsers_script_shows_no_other_texts(shown):
    source = (ROOT / "javascript" / "todo.js").read_text(encoding="utf8")
    words = re.findall(r'sentence\(\["([^"]+)"\]\)', source)
    assert {*words} == {"hires pass"} <= shown


def test_translations_have_a_place_for_each_figure(shown):
    for file in FILES:
        translated = json.loads(file.read_text(encoding="utf8"))
        assert [text for text in shown if translated[text].count("{}") != text.count("{}")] == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_language_has_every_string_and_no_other(shown, file: Path):
    translated = json.loads(file.read_text(encoding="utf8"))
    assert shown - set(translated) == set(), "missing"
    assert set(translated) - shown == set(), "no longer shown"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_translations_are_trimmed_single_lines(file: Path):
    # The host compares trimmed strings and does not translate numbers.
    pairs = json.loads(file.read_text(encoding="utf8"), object_pairs_hook=list)
    assert len({key for key, _ in pairs}) == len(pairs)
    for text, translation in pairs:
        assert text == text.strip()
        assert isinstance(translation, str)
        assert translation == translation.strip() != ""
        assert "\n" not in translation
        assert text != translation
