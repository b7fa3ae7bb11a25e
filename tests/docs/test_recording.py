"""The record of tests in a running host holds the last outcome of every test, and only of runs like its own. That of
the method's tests holds their number."""

from __future__ import annotations

import json
from types import SimpleNamespace

from tests.recording import Count, Recorder


def record(path, torch="2.1", **outcomes):
    return written(Recorder(path, {"torch": torch}, "host"), outcomes)


def written(recorder, outcomes):
    """What a recorder writes after tests with these outcomes."""
    for name, outcome in outcomes.items():
        failed, skipped = outcome == "failed", outcome.startswith("skipped")
        reason = ("test.py", 1, outcome.replace("skipped", "Skipped"))
        recorder.pytest_runtest_logreport(
            SimpleNamespace(
                nodeid=f"{recorder.prefix}{name}",
                outcome=outcome,
                failed=failed,
                skipped=skipped,
                when="call",
                longrepr=reason if skipped else None,
            )
        )
    recorder.pytest_sessionfinish()
    return json.loads(recorder.path.read_text(encoding="utf8"))


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


def test_outcomes_are_counted(tmp_path):
    path = tmp_path / "3.12-newest.json"
    for _ in range(2):
        outcomes = {"one": "passed", "two": "passed", "three": "skipped: nothing there", "four": "failed"}
        counted = written(Count(path), outcomes)
        assert [counted[kind] for kind in ("passed", "skipped", "failed")] == [2, 1, 1], "an earlier run is not added"
        assert {"date", "python", "torch", "diffusers", "transformers"} < set(counted)
