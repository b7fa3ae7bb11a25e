"""Records the outcome of test runs, for docs/compatibility.md."""

from __future__ import annotations

import json
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

PACKAGES = ("torch", "diffusers", "transformers")


def only_one(config: pytest.Config, items: list[pytest.Item], own: list[pytest.Item], variable: str, host: str) -> None:
    """Leaves one skipped test of a host that does not run, which stands for all, so that the reason is printed once."""
    own[0].add_marker(pytest.mark.skip(reason=f"no running {host} ({len(own)} tests): {variable} is not set"))
    items[:] = [item for item in items if item not in own[1:]]
    config.hook.pytest_deselected(items=own[1:])


class Recorder:
    """A pytest plugin that writes to a JSON file what ran and how each test of a folder ended.

    A record of the same day and of the same versions is continued, so that a long run can be made in parts. A test that
    was run again has its last outcome.

    Args:
        path: the file.
        about: what the tests ran with.
        folder: the name of the folder within `tests`.
    """

    def __init__(self, path: Path, about: dict[str, Any], folder: str):
        self.path = path
        self.about = {"date": time.strftime("%Y-%m-%d"), **about}
        self.prefix = f"tests/{folder}/"
        self.outcomes = self._earlier()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = report.nodeid.removeprefix(self.prefix)
        if report.skipped and isinstance(report.longrepr, tuple):
            self.outcomes[name] = report.longrepr[2].replace("Skipped", "skipped")
        elif report.failed or report.when == "call":
            # A failure in the teardown, such as a hook left on the model, counts as a failure of the test.
            self.outcomes[name] = report.outcome

    def pytest_sessionfinish(self) -> None:
        record = {**self.about, **self.results()}
        self.path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf8")

    def results(self) -> dict[str, Any]:
        return {"tests": dict(sorted(self.outcomes.items()))}

    def _earlier(self) -> dict[str, str]:
        if not self.path.exists():
            return {}
        record = json.loads(self.path.read_text(encoding="utf8"))
        outcomes = record.pop("tests", {})
        return outcomes if record == self.about else {}


class Count(Recorder):
    """The same for the tests of the method, of which only the versions and the number of outcomes are written."""

    def __init__(self, path: Path):
        super().__init__(
            path, {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}, "unit"
        )

    def results(self) -> dict[str, Any]:
        # A skipped test has its reason beside it.
        kinds = [outcome.split(":")[0] for outcome in self.outcomes.values()]
        return {kind: kinds.count(kind) for kind in ("passed", "skipped", "failed")}
