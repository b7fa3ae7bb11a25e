"""docs/compatibility.md: what was tried on which host, and the result.

`matrix/` holds the rows, and in document.py the text that says what a cell means. The records of the live tests are
tests/host/records/*.json. A cell that neither a record nor its row explains is an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from benchmarks.output import markdown
from docs.generate import ROOT

DOCUMENT = ROOT / "docs" / "compatibility.md"
RECORDS = ROOT / "tests" / "host" / "records"
VERSIONS = ROOT / "tests" / "unit" / "records"
NONE = "–"
NOT_FOR_THE_HOST = re.compile(
    r"skipped: (this WebUI (is not|ignores|cannot)"
    r"|this WebUI has no (script (?!'custom code')|option|sampler|ControlNet|fp8|torch|network of the)"
    r"|this WebUI's (API|page)|the (Forge family|StyleAlign of)|.* with(out| and without) ToDo)"
)
"""Reasons to skip a test because the host lacks what it tests. Every host has *custom code*, if a flag allows it."""


@dataclass(frozen=True)
class Host:
    """A column.

    Attributes:
        record: the stem of its records' names. A run with flags or extensions has them after a '+'.
        name: the column in the users' table; '' for none.
    """

    title: str
    record: str
    commit: str = ""
    name: str = ""


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        how: 'live', 'code', 'source' or NONE. If only some of the tests passed, the text says how many instead.
        note: the footnote's text; '' without one.
        hosts: the stems of its hosts' records, in a row; '' for all that no cell before it names.
        passed, tests: how many tests are for the host, and how many of them passed.
    """

    how: str
    note: str = ""
    hosts: str = ""
    passed: int = 0
    tests: int = 0

    def __str__(self) -> str:
        return f"{self.passed} of {self.tests}" if self.passed < self.tests else self.how


@dataclass(frozen=True)
class Row:
    """One case on all hosts.

    Attributes:
        case: the part before a colon is the line of the users' table to which it belongs.
        result: the same on every host.
        tests: patterns for the names of live tests.
        cells: for hosts on which none of the tests passed.
        runs: the flags or extensions of the runs that count; empty if any run counts.
    """

    case: str
    result: str
    tests: tuple[str, ...] = ()
    cells: tuple[Cell, ...] = ()
    runs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A section of the document. The rows of tables that are not about ToDo's own features are in the users' table."""

    title: str
    hosts: tuple[Host, ...]
    rows: tuple[Row, ...]
    text: str = ""
    own: bool = False


class EmptyCellError(Exception):
    """A cell is neither live nor explained, or a live test failed."""


def records(host: Host) -> Iterator[tuple[str, dict[str, Any]]]:
    """The host's records, each with the flags or extensions of its run."""
    for path in sorted(RECORDS.glob(f"{host.record}*.json")):
        stem, _, variant = path.stem.partition("+")
        if stem == host.record:
            yield variant, json.loads(path.read_text(encoding="utf8"))


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a test's name matches one of the patterns. Square brackets stand for themselves."""
    return any(fnmatchcase(name, pattern.replace("[", "[[]")) for pattern in patterns)


def cell(row: Row, host: Host) -> Cell:
    """The cell of a row for a host. Live tests take precedence over the row's own cells.

    Raises:
        EmptyCellError: there is neither, or a live test failed.
    """
    found: dict[str, set[str]] = {}
    for variant, record in records(host):
        for name, outcome in record["tests"].items():
            if matches(name, row.tests) and (not row.runs or variant in row.runs):
                if outcome == "failed":
                    raise EmptyCellError(f"{row.case} on {host.title}: {name}, {variant or 'no flags'}, failed")
                found.setdefault(name, set()).add(outcome)
    passed = sum("passed" in outcomes for outcomes in found.values())
    skipped = [outcomes for outcomes in found.values() if "passed" not in outcomes]
    missed = [{each for each in outcomes if not NOT_FOR_THE_HOST.match(each)} for outcomes in skipped]
    tests = passed + sum(map(bool, missed))
    written = next((each for each in row.cells if not each.hosts or host.record in each.hosts.split()), None)
    if tests and (passed or not written):
        reasons = sorted(reason.removeprefix("skipped: ") for reason in set().union(*missed))
        return Cell("live", f"Not run: {'; '.join(reasons)}." if reasons else "", "", passed, tests)
    if written or found:
        return written or Cell(NONE)
    raise EmptyCellError(f"{row.case} on {host.title}: not tried, and no reason given")


def host_table(hosts: Iterable[Host], tables: Iterable[Table]) -> str:
    """The users' table of hosts."""
    rows = []
    for host in hosts:
        own = [cell(row, host) for table in tables if table.own and host in table.hosts for row in table.rows]
        date = max(record["date"] for _, record in records(host))
        rows.append([host.title, host.commit, date, f"{sum(c.passed for c in own)} of {sum(c.tests for c in own)}"])
    return markdown(["host", "commit", "last tested", "tests of ToDo's own features that passed"], rows)


def asked_table(hosts: Iterable[Host], tables: Iterable[Table]) -> str:
    """The users' table of models, settings and extensions."""
    columns = [host for host in hosts if host.name]
    results: dict[str, str] = {}
    cells: dict[tuple[str, Host], list[Cell]] = {}
    for table in tables:
        for row in () if table.own else table.rows:
            for host in set(columns) & set(table.hosts):
                case = row.case.partition(": ")[0]
                results.setdefault(case, row.result)
                cells.setdefault((case, host), []).append(cell(row, host))
    rows = [[case, results[case], *(summary(cells.get((case, host), ())) for host in columns)] for case in results]
    return markdown(["", "what happens", *(host.name for host in columns)], rows)


def summary(cells: Iterable[Cell]) -> str:
    """What the cells of a host say together, in a user's words."""
    hows = {str(cell) for cell in cells} - {NONE}
    if hows <= {"live"}:
        return "tested" if hows else NONE
    return "likely" if hows <= {"code", "source"} else "in part"


def run_table(hosts: Iterable[Host]) -> str:
    """One line for each run of the live tests."""
    rows = []
    for host in hosts:
        for variant, record in records(host):
            packages = f"{record['python']}, {record['torch']}, {record.get('gradio', 'none')}"
            outcomes = [outcome.partition(":")[0] for outcome in record["tests"].values()]
            counts = [str(outcomes.count(each)) for each in ("passed", "skipped")]
            rows.append([host.title, host.commit, packages, variant, record["date"], *counts])
    return markdown(["host", "commit", "Python, torch, gradio", "flags", "date", "passed", "skipped"], rows)


def version_table() -> str:
    """One line for each environment of `make matrix`."""
    head = ["Python", "torch", "diffusers", "transformers", "date", "passed", "skipped"]
    found = [json.loads(path.read_text(encoding="utf8")) for path in sorted(VERSIONS.glob("*.json"))]
    if any(record["failed"] for record in found):
        raise EmptyCellError("a test of the method failed in an environment of `make matrix`")
    return markdown(head, [[str(record[name.lower()]) for name in head] for record in found])


def sections(tables: Iterable[Table]) -> str:
    """The sections of the tables, and the notes."""
    notes: dict[str, int] = {}

    def marked(cell: Cell) -> str:
        number = notes.setdefault(cell.note, len(notes) + 1) if cell.note else 0
        return f"{cell} [{number}](#note-{number})" if number else str(cell)

    parts = []
    for table in tables:
        text = f"{table.text.strip()}\n\n" if table.text else ""
        rows = [[row.case, row.result, *(marked(cell(row, host)) for host in table.hosts)] for row in table.rows]
        head = ["", "result", *(host.title for host in table.hosts)]
        parts.append(f"## {table.title}\n\n{text}{markdown(head, rows)}")
    listed = "\n".join(f'{number}. <a id="note-{number}"></a>{text}' for text, number in notes.items())
    return "\n".join([*parts, f"## Notes\n\n{listed}"])
