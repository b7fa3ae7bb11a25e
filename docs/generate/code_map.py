"""The map of the code in CONTRIBUTING.md: the first sentence of each module's docstring."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from docs.generate import ROOT

_PACKAGES_ALONE = ("benchmarks", "docs")
"""Folders of which the packages are shown without their modules."""

_LONGEST = 90
"""Characters. Of a longer sentence, what stands before the first colon or comma is shown."""


def code_map() -> str:
    """Paths and sentences, a line each, in a block of code."""
    lines = [line for top in ("todo", "scripts", *_PACKAGES_ALONE) for line in _lines(ROOT / top, 0)]
    return "```\n" + "\n".join(lines) + "\n```\n"


def _lines(folder: Path, depth: int) -> Iterator[str]:
    package = folder / "__init__.py"
    yield _line(f"{folder.name}/", package, depth)
    if folder.relative_to(ROOT).parts[0] not in _PACKAGES_ALONE:
        for module in sorted(folder.glob("*.py")):
            if module != package:
                yield _line(module.name, module, depth + 1)
    for inner in sorted(path.parent for path in folder.glob("*/__init__.py")):
        yield from _lines(inner, depth + 1)


def _line(name: str, module: Path, depth: int) -> str:
    name = f"{'  ' * depth}{name}"
    return f"{name:<22} {_sentence(module)}".rstrip()


def _sentence(module: Path) -> str:
    if not module.exists():
        return ""
    text = " ".join((ast.get_docstring(ast.parse(module.read_text(encoding="utf8"))) or "").split("\n\n")[0].split())
    sentence = re.split(r"(?<=[.:]) (?=[A-Z])", text)[0].rstrip(".:")
    return sentence if len(sentence) <= _LONGEST else re.split("[:,] ", sentence)[0]
