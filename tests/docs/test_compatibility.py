"""The compatibility document: its cells claim no more than the records show, and it is up to date."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from docs.generate import ROOT
from docs.generate.compatibility import (
    DOCUMENT,
    NONE,
    RECORDS,
    Cell,
    EmptyCellError,
    Host,
    Row,
    Table,
    asked_table,
    cell,
    host_table,
    matches,
    sections,
)
from docs.generate.matrix.document import HOSTS, TABLES, generate

TEST_NAME = re.compile(r"tests/[\w/]+\.py(?:::\w+)?")
"""The name of a test file or of a test, in a note."""

ALPHA, BETA = Host("Alpha 1", "alpha", "c0ffee", "Alpha"), Host("Beta", "beta", "", "Beta")
ROW = Row("case", "works", ("test_a*",))
READ = Cell("source", "read")
NOT_RUN = "skipped: no WebUI without the extension: SD_WEBUI_PLAIN_URL is not set"
ABSENT = "skipped: this WebUI has no script 'controlnet'"


@pytest.fixture
def records(tmp_path, monkeypatch):
    """A function that writes a record into a temporary folder, which replaces the real one."""
    monkeypatch.setattr("docs.generate.compatibility.RECORDS", tmp_path)

    def write(stem, **tests):
        versions = {"date": "2026-01-02", "python": "3.10.6", "torch": "2.1", "gradio": "3.41.2"}
        outcomes = {name.replace("__", "::"): outcome for name, outcome in tests.items()}
        (tmp_path / f"{stem}.json").write_text(json.dumps({**versions, "tests": outcomes}))

    return write


def test_a_cell_is_live_if_each_of_its_tests_passed(records):
    records("alpha", test_a__one="passed", test_a__two="passed", test_b__three=NOT_RUN)
    row = replace(ROW, cells=(READ,))
    assert cell(row, ALPHA) == Cell("live", passed=2, tests=2), "without the note"
    assert cell(row, BETA) == READ


def test_else_it_says_how_many_and_why(records):
    records("alpha", test_a__one="passed", test_a__two="passed", test_a__three=NOT_RUN)
    records("beta", test_a__one=NOT_RUN)
    some = cell(replace(ROW, cells=(READ,)), ALPHA)
    assert str(some) == "2 of 3"
    assert some.note == "Not run: no WebUI without the extension: SD_WEBUI_PLAIN_URL is not set."
    assert str(cell(ROW, BETA)) == "0 of 1"
    assert cell(replace(ROW, cells=(READ,)), BETA) == READ, "where none passed, what was read says more"


def test_a_test_of_what_the_host_lacks_is_not_for_it(records):
    records("alpha", test_a__one="passed", test_a__two=ABSENT)
    records("beta", test_a__one=ABSENT)
    assert str(cell(ROW, ALPHA)) == "live"
    assert cell(ROW, BETA) == Cell(NONE)


def test_a_test_passed_if_it_did_in_any_run(records):
    records("alpha", test_a__one=ABSENT, test_a__two=NOT_RUN)
    records("alpha+controlnet", test_a__one="passed", test_a__two=ABSENT)
    assert str(cell(ROW, ALPHA)) == "1 of 2"


@pytest.mark.parametrize(
    ("reason", "counts"),
    {
        "this WebUI is not Forge": False,
        "this WebUI has no script 'loopback', or needs an option for it": False,
        "this WebUI has no script 'custom code', or needs an option for it": True,
        "this WebUI has no option token_merging_no_rand": False,
        "this WebUI ignores the option cross_attention_optimization": False,
        "this WebUI's API does not accept infotext": False,
        "the Forge family has no UNets of other engines": False,
        "Forge fails at this script without ToDo, too: its model has no parameterization": False,
        "this WebUI has no network with 'lokr' in its name": True,
        "the WebUI has no Flux checkpoint (flux in its name)": True,
        "compiling takes minutes: SD_WEBUI_COMPILE is not set": True,
        "this WebUI saves no defaults until its option use_ui_config_json is on, as in ersatzForge": True,
        "a reason that nobody thought of": True,
    }.items(),
)
def test_which_skipped_tests_count_as_not_run(records, reason, counts):
    records("alpha", test_a__one="passed", test_a__two=f"skipped: {reason}")
    assert str(cell(ROW, ALPHA)) == ("1 of 2" if counts else "live")


def test_a_failed_test_is_an_error(records):
    records("alpha", test_a__one="passed")
    records("alpha+--lowvram", test_a__one="failed")
    with pytest.raises(EmptyCellError, match=r"case on Alpha 1: test_a::one, --lowvram, failed"):
        cell(replace(ROW, cells=(READ,)), ALPHA)


def test_a_case_that_nothing_explains_is_an_error(records):
    records("alpha", test_b__one="passed")
    with pytest.raises(EmptyCellError, match="case on Alpha 1: not tried"):
        cell(ROW, ALPHA)


def test_brackets_are_matched_literally(records):
    records("alpha", **{"test_a__one[x]": "passed", "test_a__onex": "failed"})
    assert str(cell(Row("case", "works", ("test_a::one[x]",)), ALPHA)) == "live"


def test_equal_notes_are_listed_once(records):
    rows = tuple(Row(name, "works", (), (Cell(NONE, "two", "beta"), Cell("code", "one"))) for name in "ab")
    text = sections([Table("Cases", (ALPHA, BETA), rows)])
    assert "| a | works | code [1](#note-1) | – [2](#note-2) |" in text
    assert "| b | works | code [1](#note-1) | – [2](#note-2) |" in text
    assert text.count("</a>") == 2


def test_a_row_can_require_flags(records):
    records("alpha", test_a__one="passed")
    records("alpha+--lowvram", test_a__two="passed")
    row = Row("case", "works", ("*one",), (READ,), runs=("--lowvram",))
    assert cell(row, ALPHA) == READ
    assert str(cell(replace(row, tests=("*two",)), ALPHA)) == "live"


def test_the_users_tables_sum_up_the_others(records):
    records("alpha", test_a__one="passed", test_a__two=NOT_RUN, test_b__one="passed")
    records("beta", test_a__one=ABSENT, test_b__one="passed")
    rows = (
        Row("SDXL", "works", ("test_b*",)),
        Row("SDXL: refiner", "acts on both", ("test_a*",)),
        Row("xformers", "works", (), (Cell("code", "tried", "alpha"), Cell(NONE))),
    )
    tables = [Table("Own", (ALPHA, BETA), rows, own=True), Table("Others", (ALPHA, BETA), rows)]
    assert host_table([ALPHA], tables).splitlines()[2:] == ["| Alpha 1 | c0ffee | 2026-01-02 | 2 of 3 |"]
    assert asked_table([ALPHA, BETA], tables).splitlines() == [
        "|  | what happens | Alpha | Beta |",
        "| --- | --- | --- | --- |",
        "| SDXL | works | in part | tested |",
        "| xformers | works | likely | – |",
    ]


# --- the document itself


def test_the_document_is_up_to_date():
    assert DOCUMENT.read_text(encoding="utf8") == generate(), "run make docs"


def test_every_record_has_a_column_and_no_failure():
    for path in RECORDS.glob("*.json"):
        assert path.stem.partition("+")[0] in {host.record for host in HOSTS}
        outcomes = json.loads(path.read_text(encoding="utf8"))["tests"].values()
        assert {outcome.partition(":")[0] for outcome in outcomes} <= {"passed", "skipped"}, path.name


def test_every_passed_test_is_in_a_table():
    patterns = [pattern for table in TABLES for row in table.rows for pattern in row.tests]
    passed = {
        name
        for path in RECORDS.glob("*.json")
        for name, outcome in json.loads(path.read_text(encoding="utf8"))["tests"].items()
        if outcome == "passed"
    }
    assert {name for name in passed if not matches(name, patterns)} == set()


def test_each_cell_is_for_hosts_of_its_table():
    for table in TABLES:
        for row in table.rows:
            for written in row.cells:
                assert set(written.hosts.split()) <= {host.record for host in table.hosts}, row.case


def test_the_tests_that_notes_name_exist():
    for table in TABLES:
        for row in table.rows:
            for noted in row.cells:
                for name in TEST_NAME.findall(noted.note):
                    file, _, test = name.partition("::")
                    source = (ROOT / file).read_text(encoding="utf8")
                    assert not test or f"def {test}(" in source, name
