"""docs/compatibility.md: what was tried where, and what came of it.

A cell says how its claim was verified:

- live: a test passed in the real host; the records of those runs are tests/host/records/*.json
- code: the neighbour's or host's own code, or a named stand-in for how it calls attention, in a test without the host
- source: read in the source, with file and line
- none: the host offers no such thing, and why

`matrix/` holds the rows. A cell that is neither live nor explained there is an error here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "compatibility.md"
RECORDS = ROOT / "tests" / "host" / "records"


@dataclass(frozen=True)
class Host:
    """A column. `record` is the stem of its records: a run under other flags has a name that goes on after '+'."""

    title: str
    record: str
    commit: str = ""


@dataclass(frozen=True)
class Cell:
    """What stands in a cell, and the note that it refers to."""

    how: str
    note: str = ""


@dataclass(frozen=True)
class Row:
    """One case on every host.

    tests: patterns of the names of live tests; those that ran decide the cell.
    result: what comes of it, the same on every host.
    run: what a run must have had in particular to count; '' where any run does.
    cells: by record, for hosts on which no test of it ran; '*' for all others.
    """

    case: str
    result: str
    tests: tuple[str, ...] = ()
    cells: dict[str, Cell] = field(default_factory=dict)
    run: str = ""


@dataclass(frozen=True)
class Table:
    """A section of the document, with columns for all hosts unless `hosts` names others."""

    title: str
    rows: tuple[Row, ...]
    text: str = ""
    hosts: tuple[Host, ...] = ()


class EmptyCellError(Exception):
    """A cell is neither live nor explained, or a live test failed."""


def records(host: Host) -> Iterator[tuple[str, dict[str, Any]]]:
    """The host's records with what their runs had in particular, such as a flag."""
    for path in sorted(RECORDS.glob(f"{host.record}*.json")):
        stem, _, variant = path.stem.partition("+")
        if stem == host.record:
            yield variant, json.loads(path.read_text(encoding="utf8"))


def live(row: Row, host: Host) -> Cell | None:
    """The cell that the host's records give; None if no test of the row ran."""
    outcomes = {
        f"{name} in a run with {variant or 'no flags'}": outcome
        for variant, record in records(host)
        if row.run in ("", variant)
        for name, outcome in record["tests"].items()
        if matches(name, row.tests)
    }
    if failed := [name for name, outcome in outcomes.items() if outcome == "failed"]:
        raise EmptyCellError(f"{row.case} on {host.title}: {failed[0]} failed")
    return Cell("live") if "passed" in outcomes.values() else None


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a test's name fits one of the patterns."""
    return any(fnmatchcase(_plain(name), _plain(pattern)) for pattern in patterns)


def _plain(name: str) -> str:
    """Square brackets have a meaning of their own in patterns."""
    return name.replace("[", "(").replace("]", ")")


def cell(row: Row, host: Host) -> Cell:
    found = live(row, host) or row.cells.get(host.record) or row.cells.get("*")
    if found is None:
        raise EmptyCellError(f"{row.case} on {host.title}: not tried, and no reason given")
    return found


class Notes:
    """Footnotes in the order of their first use; equal ones are one."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def mark(self, found: Cell) -> str:
        if not found.note:
            return found.how
        if found.note not in self.texts:
            self.texts.append(found.note)
        number = self.texts.index(found.note) + 1
        return f"{found.how} [{number}](#note-{number})"


def document(introduction: str, hosts: tuple[Host, ...], tables: tuple[Table, ...]) -> str:
    """The whole document, in Markdown."""
    notes = Notes()
    lines = [introduction.strip(), "", "## Hosts", "", *_host_lines(hosts)]
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
            versions = f"{record['python']}, {record['torch']}, {record['gradio']}"
            passed, skipped = outcomes.count("passed"), sum(outcome.startswith("skipped") for outcome in outcomes)
            yield f"| {host.title} | {host.commit} | {versions} | {variant} | {record['date']} | {passed} | {skipped} |"


def _table_lines(table: Table, hosts: tuple[Host, ...], notes: Notes) -> Iterator[str]:
    yield f"| | result | {' | '.join(host.title for host in hosts)} |"
    yield "|---" * (len(hosts) + 2) + "|"
    for row in table.rows:
        yield f"| {row.case} | {row.result} | {' | '.join(notes.mark(cell(row, host)) for host in hosts)} |"
