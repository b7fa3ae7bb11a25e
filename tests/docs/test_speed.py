"""The documents' figures of speed: they come from the seconds in the files, and those that the present code would not
reproduce are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from benchmarks import output
from docs.generate import RESULTS, speed
from docs.generate.__main__ import main
from todo import Settings, plan


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A copy of the published results, which the documents are generated from."""
    shutil.copytree(RESULTS, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(speed, "RESULTS", tmp_path)
    speed.published.cache_clear()
    yield tmp_path
    speed.published.cache_clear()


def test_the_default_is_found_by_what_it_keeps() -> None:
    """At SDXL's 1024², where the setting that kept as much when it was measured had another name."""
    values = json.loads((RESULTS / "sdxl-cuda.json").read_text(encoding="utf8"))
    (rows,) = (size["rows"] for size in values["sizes"] if size["width"] == size["height"] == 1024)
    kept = [level.kept for level in plan(1024, 1024, Settings(), "sdxl").levels]
    dense, todo = (next(row["seconds"] for row in rows if row[key] == value) for key, value in
                   (("method", "dense"), ("kept", kept)))  # fmt: skip
    expected = f"×{median(a / b for a, b in zip(dense, todo, strict=True)):.2f}"
    head, _, _, sdxl, *_ = [[cell.strip() for cell in line.split("|")] for line in speed.default_table().splitlines()]
    assert sdxl[head.index("1024²")] == expected


@pytest.mark.parametrize("name", [*speed.GPU.values(), *speed.CPU.values()])
def test_a_result_that_the_present_code_would_not_reproduce_is_refused(
    results: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    values = json.loads((results / f"{name}.json").read_text(encoding="utf8"))
    row = next(row for row in values["sizes"][0]["rows"] if row["kept"])
    row["kept"][0] += 1
    output.write_json(values, results / f"{name}.json")
    written: list[Path] = []
    monkeypatch.setattr(output, "write_text", lambda text, path: written.append(path))
    assert main() == 1
    assert written == []
    message = capsys.readouterr().err
    assert message.startswith(f"{name}.json: {row['method']!r} at ")
    assert str(tuple(row["kept"])) in message


def test_what_was_not_measured_is_a_dash(results: Path) -> None:
    """A plan's figure never stands in for it."""
    path = results / "sdxl-cuda.json"
    values = json.loads(path.read_text(encoding="utf8"))
    for size in values["sizes"]:
        size["rows"] = [row for row in size["rows"] if not row["method"].startswith("ToDo, 32")]
    output.write_json(values, path)
    row = next(line for line in speed.speed_table("sdxl-cuda")().splitlines() if "1024²" in line)
    place = row.split("|").index(" 1024² ")
    default = next(line for line in speed.speed_table("sdxl-cuda")().splitlines() if "48 per side" in line)
    assert default.split("|")[place].strip() == "–"
