"""The compatibility document: its cells claim no more than the records show, and it is up to date."""

from __future__ import annotations

import json
import re

import pytest

from docs.generate import ROOT
from docs.generate.compatibility import (
    DOCUMENT,
    RECORDS,
    Cell,
    EmptyCellError,
    Host,
    Row,
    Table,
    cell,
    document,
    matches,
)
from docs.generate.matrix.document import EVERYWHERE, TABLES, generate

TEST_NAME = re.compile(r"tests/[\w/]+\.py(?:::\w+)?")
"""The name of a test file or of a test, in a note."""

ALPHA, BETA = Host("Alpha 1", "alpha"), Host("Beta", "beta")


@pytest.fixture
def records(tmp_path, monkeypatch):
    """A function that writes a record into a temporary folder, which replaces the real one."""
    monkeypatch.setattr("docs.generate.compatibility.RECORDS", tmp_path)

    def write(stem, **tests):
        versions = {"date": "2026-01-02", "python": "3.10.6", "torch": "2.1", "gradio": "3.41.2"}
        outcomes = {name.replace("__", "::"): outcome for name, outcome in tests.items()}
        (tmp_path / f"{stem}.json").write_text(json.dumps({**versions, "tests": outcomes}))

    return write


def test_a_cell_is_live_if_a_test_passed(records):
    records("alpha", test_a__one="passed", test_a__two="skipped: nothing there")
    row = Row("case", "works", ("test_a*",), {"*": Cell("source", "read")})
    assert cell(row, ALPHA) == Cell("live"), "without the note"
    assert cell(row, BETA) == Cell("source", "read")


def test_a_skipped_test_proves_nothing(records):
    records("alpha", test_a__one="skipped: nothing there")
    with pytest.raises(EmptyCellError, match="case on Alpha 1: not tried"):
        cell(Row("case", "works", ("test_a*",)), ALPHA)


def test_a_failed_test_is_an_error(records):
    records("alpha", test_a__one="passed")
    records("alpha+--lowvram", test_a__one="failed")
    with pytest.raises(EmptyCellError, match=r"test_a::one in a run with --lowvram failed"):
        cell(Row("case", "works", ("test_a::one",), {"alpha": Cell("source", "read")}), ALPHA)


def test_brackets_are_matched_literally(records):
    records("alpha", **{"test_a__one[x]": "passed", "test_a__onex": "failed"})
    assert cell(Row("case", "works", ("test_a::one[x]",)), ALPHA).how == "live"


def test_equal_notes_are_listed_once(records):
    records("alpha", test_a__one="passed")
    rows = tuple(Row(name, "works", (), {"*": Cell("code", "one"), "beta": Cell("none", "two")}) for name in "ab")
    text = document("# Title", (ALPHA, BETA), (Table("Cases", rows),))
    assert "| a | works | code [1](#note-1) | none [2](#note-2) |" in text
    assert "| b | works | code [1](#note-1) | none [2](#note-2) |" in text
    assert text.count("</a>") == 2
    assert "| Alpha 1 |  | 3.10.6, 2.1, 3.41.2 |  | 2026-01-02 | 1 | 0 |" in text


def test_a_row_can_require_flags(records):
    records("alpha", test_a__one="passed")
    records("alpha+--lowvram", test_a__two="passed")
    row = Row("case", "works", ("*one",), {"*": Cell("source", "read")}, runs=("--lowvram",))
    assert cell(row, ALPHA).how == "source"
    assert cell(Row("case", "works", ("*two",), runs=("--lowvram",)), ALPHA).how == "live"


# --- the document itself


def test_the_document_is_up_to_date():
    assert DOCUMENT.read_text(encoding="utf8") == generate(), "run make docs"


def test_every_record_has_a_column_and_no_failure():
    for path in RECORDS.glob("*.json"):
        assert path.stem.partition("+")[0] in {host.record for host in EVERYWHERE}
        outcomes = json.loads(path.read_text(encoding="utf8"))["tests"].values()
        assert {outcome.partition(":")[0] for outcome in outcomes} <= {"passed", "skipped"}, path.name


def test_every_passed_test_is_in_a_table():
    patterns = [pattern for table in TABLES for row in table.rows for pattern in row.tests if pattern != "*"]
    passed = {
        name
        for path in RECORDS.glob("*.json")
        for name, outcome in json.loads(path.read_text(encoding="utf8"))["tests"].items()
        if outcome == "passed"
    }
    assert {name for name in passed if not matches(name, patterns)} == set()


def test_the_tests_that_notes_name_exist():
    for table in TABLES:
        for row in table.rows:
            for noted in row.cells.values():
                for name in TEST_NAME.findall(noted.note):
                    file, _, test = name.partition("::")
                    source = (ROOT / file).read_text(encoding="utf8")
                    assert not test or f"def {test}(" in source, name
