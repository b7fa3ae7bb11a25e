"""Output of the commands: files, JSON, and tables as text or Markdown."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.cli import columns
from todo import SettingsError

Cells = Sequence[str]


def files(folder: Path, name: str, *endings: str) -> list[Path]:
    """The paths of a command's files, one for each ending. They are checked before the command runs for hours.

    Raises:
        SettingsError: the name contains a folder, or a file cannot be written.
    """
    if Path(name).name != name or not name or not name.isprintable():
        raise SettingsError("name", f"name: {name!r} is not allowed; it must be a file name without a folder")
    paths = [folder / f"{name}.{ending}" for ending in endings]
    check(*paths)
    return paths


def check(*paths: Path) -> None:
    """Creates the folders of files and checks that the files can be written.

    Raises:
        SettingsError: a file cannot be written.
    """
    for path in paths:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _try_to_write(path)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise SettingsError("output", f"output: {str(path)!r} cannot be written: {reason}") from None


def _try_to_write(path: Path) -> None:
    existed = path.exists()
    with path.open("ab"):
        pass
    if not existed:
        path.unlink()


def write_text(text: str, path: Path) -> None:
    """Writes a file atomically: an interrupted command leaves the previous file or the complete new one."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def write_json(values: Any, path: Path, indent: int = 2) -> None:
    write_text(json.dumps(values, indent=indent, ensure_ascii=False) + "\n", path)


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def markdown(head: Cells, rows: Sequence[Cells]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def bullets(*sentences: str) -> str:
    """A Markdown list."""
    return "".join(
        textwrap.fill(f"- {each}", 120, subsequent_indent="  ", break_long_words=False) + "\n" for each in sentences
    )


def table(head: Cells, groups: Sequence[Sequence[Cells]]) -> str:
    """A table as text, with a rule between groups of rows. Cells may have several lines.

    If the terminal is too narrow for the columns, each row becomes a list of its cells instead.
    """
    rows = [row for group in groups for row in group]
    by_column = zip(head, *rows, strict=True)
    widths = [max(len(part) for cell in column for part in cell.split("\n")) for column in by_column]
    total = sum(widths) + 2 * (len(widths) - 1)
    if total > columns():
        return "\n\n".join(_listed(head, row) for row in rows)
    rule = "─" * total
    lines = list(_aligned(head, widths))
    for group in groups:
        lines += [rule, *(text for row in group for text in _aligned(row, widths))]
    return "\n".join([*lines, rule])


def pairs(rows: Sequence[tuple[str, str]]) -> str:
    """Labels and values, one pair per line. Long values wrap and stay aligned."""
    width = max(len(label) for label, _ in rows)
    return "\n".join(wrapped(f"{label:<{width}}  {value}", " " * (width + 2)) for label, value in rows)


def wrapped(text: str, indent: str = "") -> str:
    """Text wrapped at the width of the terminal."""
    return "\n".join(textwrap.wrap(text, columns(), subsequent_indent=indent, break_long_words=False))


def _aligned(cells: Cells, widths: Sequence[int]) -> Iterator[str]:
    """The lines of one row, its cells padded to the columns' widths."""
    split = [cell.split("\n") for cell in cells]
    for index in range(max(map(len, split))):
        texts = (parts[index] if index < len(parts) else "" for parts in split)
        yield "  ".join(text.ljust(width) for text, width in zip(texts, widths, strict=True)).rstrip()


def _listed(head: Cells, row: Cells) -> str:
    """A row as a list of its non-empty cells, each labelled with its column's head."""
    return pairs([(label, cell.replace("\n", ", ")) for label, cell in zip(head, row, strict=True) if cell])
