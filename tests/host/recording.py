"""Records the outcome of the tests in a running host, for docs/compatibility.md."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest


def only_one(config: pytest.Config, items: list[pytest.Item], own: list[pytest.Item], variable: str, host: str) -> None:
    """Leaves one skipped test of a host that does not run, which stands for all, so that the reason is printed once."""
    own[0].add_marker(pytest.mark.skip(reason=f"no running {host} ({len(own)} tests): {variable} is not set"))
    items[:] = [item for item in items if item not in own[1:]]
    config.hook.pytest_deselected(items=own[1:])


class Recorder:
    """A pytest plugin that writes the outcome of each test of the folder `of` to `path`."""

    def __init__(self, path: Path, about: dict[str, Any], of: Path):
        self.prefix = f"tests/{of.name}/"
        self.path = path
        self.about = about
        self.outcomes: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = report.nodeid.removeprefix(self.prefix)
        if report.skipped and isinstance(report.longrepr, tuple):
            self.outcomes[name] = report.longrepr[2].replace("Skipped", "skipped")
        elif report.failed or report.when == "call":
            # A failure in the teardown, such as a hook left on the model, counts as a failure of the test.
            self.outcomes[name] = report.outcome

    def pytest_sessionfinish(self) -> None:
        record = {"date": time.strftime("%Y-%m-%d"), **self.about, "tests": dict(sorted(self.outcomes.items()))}
        self.path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf8")
