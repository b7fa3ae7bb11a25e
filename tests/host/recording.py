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
    """A pytest plugin that writes the outcome of each test of the folder `of` to `path`.

    A record of the same day and of the same versions is continued, so that a long run can be made in parts. A test that
    was run again has its last outcome.
    """

    def __init__(self, path: Path, about: dict[str, Any], of: Path):
        self.prefix = f"tests/{of.name}/"
        self.path = path
        self.about = {"date": time.strftime("%Y-%m-%d"), **about}
        self.outcomes = self._earlier()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = report.nodeid.removeprefix(self.prefix)
        if report.skipped and isinstance(report.longrepr, tuple):
            self.outcomes[name] = report.longrepr[2].replace("Skipped", "skipped")
        elif report.failed or report.when == "call":
            # A failure in the teardown, such as a hook left on the model, counts as a failure of the test.
            self.outcomes[name] = report.outcome

    def pytest_sessionfinish(self) -> None:
        record = {**self.about, "tests": dict(sorted(self.outcomes.items()))}
        self.path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf8")

    def _earlier(self) -> dict[str, str]:
        if not self.path.exists():
            return {}
        record = json.loads(self.path.read_text(encoding="utf8"))
        outcomes = record.pop("tests")
        return outcomes if record == self.about else {}
