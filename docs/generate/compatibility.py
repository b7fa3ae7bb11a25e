"""docs/compatibility.md: what was tried on which host, and the result.

A cell says how its claim was verified:

- live: a test passed in the real host; the records of these runs are tests/host/records/*.json
- code: a test without the host passed, with the extension's or host's own code, or with a stand-in that a note names
- source: read in the source; a note gives file and line
- none: the host has no such thing; a note says why

`matrix/` holds the rows. A cell that is neither live nor explained by its row is an error.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from docs.generate import ROOT

DOCUMENT = ROOT / "docs" / "compatibility.md"
RECORDS = ROOT / "tests" / "host" / "records"
VERSIONS = ROOT / "tests" / "unit" / "records"


@dataclass(frozen=True)
class Host:
    """A column.

    Attributes:
        record: the stem of its records' names. A run with flags or extensions has them after a '+'.
    """

    title: str
    record: str
    commit: str = ""


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        how: how the claim was verified: 'live', 'code', 'source' or 'none'.
        note: the footnote's text; '' without one.
    """

    how: str
    note: str = ""


@dataclass(frozen=True)
class Row:
    """One case on all hosts.

    Attributes:
        result: the same on every host.
        tests: patterns for the names of live tests. If any of them passed on a host, its cell is live.
        cells: by record, for hosts on which none passed; '*' for all others.
        runs: the flags or extensions of the runs that count; empty if any run counts.
    """

    case: str
    result: str
    tests: tuple[str, ...] = ()
    cells: dict[str, Cell] = field(default_factory=dict)
    runs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A section of the document.

    Attributes:
        text: an introduction.
        hosts: the columns; the document's hosts if empty.
    """

    title: str
    rows: tuple[Row, ...]
    text: str = ""
    hosts: tuple[Host, ...] = ()


VERSIONS_TEXT = """
The tests of the method without a WebUI, `make matrix`, with the oldest torch that is supported and with the newest of
the day.
"""


class EmptyCellError(Exception):
    """A cell is neither live nor explained, or a live test failed."""


def records(host: Host) -> Iterator[tuple[str, dict[str, Any]]]:
    """The host's records, each with the flags or extensions of its run."""
    for path in sorted(RECORDS.glob(f"{host.record}*.json")):
        stem, _, variant = path.stem.partition("+")
        if stem == host.record:
            yield variant, json.loads(path.read_text(encoding="utf8"))


def live(row: Row, host: Host) -> Cell | None:
    """The cell according to the host's records; None if no test of the row passed.

    Raises:
        EmptyCellError: a test failed.
    """
    outcomes = {
        f"{name} in a run with {variant or 'no flags'}": outcome
        for variant, record in records(host)
        if not row.runs or variant in row.runs
        for name, outcome in record["tests"].items()
        if matches(name, row.tests)
    }
    if failed := [name for name, outcome in outcomes.items() if outcome == "failed"]:
        raise EmptyCellError(f"{row.case} on {host.title}: {failed[0]} failed")
    return Cell("live") if "passed" in outcomes.values() else None


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a test's name matches one of the patterns."""
    return any(fnmatchcase(_without_brackets(name), _without_brackets(pattern)) for pattern in patterns)


def _without_brackets(name: str) -> str:
    """Replaces square brackets, which mean a set of characters in patterns."""
    return name.replace("[", "(").replace("]", ")")


def cell(row: Row, host: Host) -> Cell:
    """The cell of a row for a host. Live tests take precedence over the row's own cells.

    Raises:
        EmptyCellError: there is neither, or a live test failed.
    """
    verified = live(row, host) or row.cells.get(host.record) or row.cells.get("*")
    if verified is None:
        raise EmptyCellError(f"{row.case} on {host.title}: not tried, and no reason given")
    return verified


class Notes:
    """Footnotes in order of first use, without duplicates."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def mark(self, cell: Cell) -> str:
        """The cell's text, with a link to its footnote."""
        if not cell.note:
            return cell.how
        if cell.note not in self.texts:
            self.texts.append(cell.note)
        number = self.texts.index(cell.note) + 1
        return f"{cell.how} [{number}](#note-{number})"


def document(
    introduction: str, hosts: tuple[Host, ...], tables: tuple[Table, ...], recorded: tuple[Host, ...] = ()
) -> str:
    """The whole document, in Markdown.

    Args:
        hosts: the columns of every table that names none.
        recorded: all hosts, for the list of runs; `hosts` if empty.
    """
    notes = Notes()
    lines = [introduction.strip(), "", "## Hosts", "", *_host_lines(recorded or hosts)]
    lines += ["", "## Python and torch", "", VERSIONS_TEXT.strip(), "", *_version_lines()]
    for table in tables:
        lines += ["", f"## {table.title}", ""]
        lines += [table.text.strip(), ""] if table.text else []
        lines += _table_lines(table, table.hosts or hosts, notes)
    lines += ["", "## Notes", ""]
    lines += [f'{number}. <a id="note-{number}"></a>{text}' for number, text in enumerate(notes.texts, 1)]
    return "\n".join(lines) + "\n"


def _host_lines(hosts: tuple[Host, ...]) -> Iterator[str]:
    yield "| host | commit | Python, torch, gradio | flags | date | passed | skipped |"
    yield "|---|---|---|---|---|---|---|"
    for host in hosts:
        for variant, record in records(host):
            outcomes = list(record["tests"].values())
            versions = f"{record['python']}, {record['torch']}, {record.get('gradio', 'none')}"
            passed, skipped = outcomes.count("passed"), sum(outcome.startswith("skipped") for outcome in outcomes)
            yield f"| {host.title} | {host.commit} | {versions} | {variant} | {record['date']} | {passed} | {skipped} |"


def _version_lines() -> Iterator[str]:
    """One line for each environment of `make matrix`.

    Raises:
        EmptyCellError: a test failed.
    """
    columns = ("python", "torch", "diffusers", "transformers", "date", "passed", "skipped")
    yield "| Python | torch | diffusers | transformers | date | passed | skipped |"
    yield "|---" * len(columns) + "|"
    for path in sorted(VERSIONS.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf8"))
        if record["failed"]:
            raise EmptyCellError(f"{path.stem}: {record['failed']} tests failed")
        yield f"| {' | '.join(str(record[column]) for column in columns)} |"


def _table_lines(table: Table, hosts: tuple[Host, ...], notes: Notes) -> Iterator[str]:
    yield f"| | result | {' | '.join(host.title for host in hosts)} |"
    yield "|---" * (len(hosts) + 2) + "|"
    for row in table.rows:
        yield f"| {row.case} | {row.result} | {' | '.join(notes.mark(cell(row, host)) for host in hosts)} |"
