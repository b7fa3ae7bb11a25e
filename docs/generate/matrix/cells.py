"""Cells and results that several tables share."""

from __future__ import annotations

from docs.generate.compatibility import Cell
from docs.generate.matrix.hosts import DIFFUSERS

TOGETHER = "both act"
PARTLY = "blocks that it {} are left whole, the others downsampled; the log says so"
TILES, MERGES = PARTLY.format("tiles"), PARTLY.format("merges")
NO_EFFECT = "'no effect', once, with the model's kind; the image is the one without ToDo"
IN_USE = "the model in use has the patch"


def code(note: str) -> Cell:
    return Cell("code", note)


def source(note: str) -> Cell:
    return Cell("source", note)


def none(note: str) -> Cell:
    return Cell("none", note)


def on(cell: Cell, *records: str) -> dict[str, Cell]:
    """The same cell for several hosts, by the stems of their records."""
    return dict.fromkeys(records, cell)


def tried(test: str) -> dict[str, Cell]:
    """The cell of a case without a WebUI, which a unit test covers."""
    return on(code(f"tests/unit/{test}"), DIFFUSERS)


def beside(*names: str) -> tuple[str, ...]:
    """Patterns for the tests of other extensions, by their names in tests/host/neighbours, from any source."""
    return tuple(f"test_neighbours.py::test_beside[{name} (*)]" for name in names)
