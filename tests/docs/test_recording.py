"""The record of tests in a running host: it holds the last outcome of every test, and only of runs like its own."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

from tests.host.recording import Recorder

HERE = Path(__file__).parents[1] / "host"


def record(path, torch="2.1", **outcomes):
    recorder = Recorder(path, {"torch": torch}, HERE)
    for name, outcome in outcomes.items():
        failed, skipped = outcome == "failed", outcome.startswith("skipped")
        reason = ("test.py", 1, outcome.replace("skipped", "Skipped"))
        recorder.pytest_runtest_logreport(
            SimpleNamespace(
                nodeid=f"tests/host/{name}",
                outcome=outcome,
                failed=failed,
                skipped=skipped,
                when="call",
                longrepr=reason if skipped else None,
            )
        )
    recorder.pytest_sessionfinish()
    return json.loads(path.read_text(encoding="utf8"))


def test_a_record_is_continued(tmp_path):
    path = tmp_path / "alpha.json"
    record(path, one="failed", two="passed")
    merged = record(path, one="passed", three="skipped: nothing there")
    assert merged["tests"] == {"one": "passed", "three": "skipped: nothing there", "two": "passed"}
    assert record(path, two="failed")["tests"]["two"] == "failed", "the last outcome counts"


def test_a_record_of_other_versions_is_not_continued(tmp_path):
    path = tmp_path / "alpha.json"
    record(path, one="passed")
    assert record(path, torch="2.2", two="passed") | {"date": ""} == {
        "date": "",
        "torch": "2.2",
        "tests": {"two": "passed"},
    }
