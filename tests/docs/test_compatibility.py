"""How the compatibility document is made of rows and records: a cell claims no more than was run."""

from __future__ import annotations

import json
import re

import pytest

from docs.generate.compatibility import (
    DOCUMENT,
    RECORDS,
    ROOT,
    Cell,
    EmptyCellError,
    Host,
    Row,
    Table,
    cell,
    document,
    matches,
)
from docs.generate.matrix.document import TABLES, generate
from docs.generate.matrix.hosts import HOSTS

NAMED = re.compile(r"tests/[\w/]+\.py(?:::\w+)?")
"""A test file, or a test, as notes name it."""

ALPHA, BETA = Host("Alpha 1", "alpha"), Host("Beta", "beta")


@pytest.fixture
def records(tmp_path, monkeypatch):
    """A folder for records of this test's own; call it to write one."""
    monkeypatch.setattr("docs.generate.compatibility.RECORDS", tmp_path)

    def write(stem, **tests):
        about = {"date": "2026-01-02", "python": "3.10.6", "torch": "2.1", "gradio": "3.41.2"}
        named = {name.replace("__", "::"): outcome for name, outcome in tests.items()}
        (tmp_path / f"{stem}.json").write_text(json.dumps({**about, "tests": named}))

    return write


def test_a_cell_is_live_where_a_test_passed(records):
    records("alpha", test_a__one="passed", test_a__two="skipped: nothing there")
    row = Row("case", "works", ("test_a*",), {"*": Cell("source", "read")})
    assert cell(row, ALPHA) == Cell("live"), "without the note of what was read instead"
    assert cell(row, BETA) == Cell("source", "read")


def test_a_skipped_test_proves_nothing(records):
    records("alpha", test_a__one="skipped: nothing there")
    with pytest.raises(EmptyCellError, match="case on Alpha 1: not tried"):
        cell(Row("case", "works", ("test_a*",)), ALPHA)


def test_a_failure_is_no_cell(records):
    records("alpha", test_a__one="passed")
    records("alpha+--lowvram", test_a__one="failed")
    with pytest.raises(EmptyCellError, match=r"test_a::one in a run with --lowvram failed"):
        cell(Row("case", "works", ("test_a::one",), {"alpha": Cell("source", "read")}), ALPHA)


def test_brackets_are_no_pattern(records):
    records("alpha", **{"test_a__one[x]": "passed", "test_a__onex": "failed"})
    assert cell(Row("case", "works", ("test_a::one[x]",)), ALPHA).how == "live"


def test_equal_notes_are_one(records):
    records("alpha", test_a__one="passed")
    rows = tuple(Row(name, "works", (), {"*": Cell("code", "one"), "beta": Cell("none", "two")}) for name in "ab")
    text = document("# Title", (ALPHA, BETA), (Table("Cases", rows),))
    assert "| a | works | code [1](#note-1) | none [2](#note-2) |" in text
    assert "| b | works | code [1](#note-1) | none [2](#note-2) |" in text
    assert text.count("</a>") == 2
    assert "| Alpha 1 |  | 3.10.6, 2.1, 3.41.2 |  | 2026-01-02 | 1 | 0 |" in text


def test_a_row_may_count_runs_of_one_kind_alone(records):
    records("alpha", test_a__one="passed")
    records("alpha+--lowvram", test_a__two="passed")
    row = Row("case", "works", ("*one",), {"*": Cell("source", "read")}, run="--lowvram")
    assert cell(row, ALPHA).how == "source"
    assert cell(Row("case", "works", ("*two",), run="--lowvram"), ALPHA).how == "live"


# --- the document itself


def test_the_document_is_up_to_date():
    assert DOCUMENT.read_text(encoding="utf8") == generate(), "run make docs"


def test_every_record_has_its_column_and_no_failure():
    for path in RECORDS.glob("*.json"):
        assert path.stem.partition("+")[0] in {host.record for host in HOSTS}
        outcomes = json.loads(path.read_text(encoding="utf8"))["tests"].values()
        assert {outcome.partition(":")[0] for outcome in outcomes} <= {"passed", "skipped"}, path.name


def test_every_record_counts():
    """No test that ran is left out of the tables."""
    patterns = [pattern for table in TABLES for row in table.rows for pattern in row.tests if pattern != "*"]
    passed = {
        name
        for path in RECORDS.glob("*.json")
        for name, outcome in json.loads(path.read_text(encoding="utf8"))["tests"].items()
        if outcome == "passed"
    }
    assert {name for name in passed if not matches(name, patterns)} == set()


def test_tests_named_in_notes_exist():
    for table in TABLES:
        for row in table.rows:
            for each in row.cells.values():
                for name in NAMED.findall(each.note):
                    file, _, test = name.partition("::")
                    source = (ROOT / file).read_text(encoding="utf8")
                    assert not test or f"def {test}(" in source, name
