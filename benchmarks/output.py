"""Output of the commands: files, JSON, and tables as text or Markdown."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tabulate import SEPARATING_LINE, tabulate

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


def image(pixels: Any) -> Image.Image:
    """A picture of an array (height, width, 3), whose values beyond [0, 1] are clipped."""
    return Image.fromarray(np.round(pixels.clip(0, 1) * 255).astype(np.uint8))


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
    """A table as text, with a rule between groups of rows."""
    lines = [line for group in groups for line in (SEPARATING_LINE, *group)]
    return tabulate(lines[1:], head, "simple", disable_numparse=True)
