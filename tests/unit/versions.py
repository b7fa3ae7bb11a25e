"""The versions of Python and of packages that the tests of the method ran with, for docs/compatibility.md.

A run with UNIT_RECORD set to a JSON file writes them there, with the number of tests. `make matrix` does so.
"""

from __future__ import annotations

import json
import platform
import time
from importlib.metadata import version
from pathlib import Path

import pytest

PACKAGES = ("torch", "diffusers", "transformers")


class Count:
    """A plugin of pytest that counts the outcomes, and writes them to `path` with the versions."""

    def __init__(self, path: Path):
        self.path = path
        self.outcomes: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or not report.passed:
            self.outcomes[report.nodeid] = report.outcome

    def pytest_sessionfinish(self) -> None:
        outcomes = list(self.outcomes.values())
        record = {
            "date": time.strftime("%Y-%m-%d"),
            "python": platform.python_version(),
            **{name: version(name) for name in PACKAGES},
            **{outcome: outcomes.count(outcome) for outcome in ("passed", "skipped", "failed")},
        }
        self.path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf8")
