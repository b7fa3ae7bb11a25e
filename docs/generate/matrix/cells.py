"""Cells that several tables have in common."""

from __future__ import annotations

from docs.generate.compatibility import Cell
from docs.generate.matrix.hosts import DIFFUSERS

TOGETHER = "both act"
PARTLY = "blocks that it {} are left whole, the others downsampled; the log says so"
TILES, MERGES = PARTLY.format("tiles"), PARTLY.format("merges")
NO_EFFECT = "'no effect on this model', once; the image is the one without ToDo"
IN_USE = "the model in use has the patch"


def code(note: str) -> Cell:
    return Cell("code", note)


def source(note: str) -> Cell:
    return Cell("source", note)


def none(note: str) -> Cell:
    return Cell("none", note)


def on(found: Cell, *records: str) -> dict[str, Cell]:
    """The same cell for several hosts."""
    return dict.fromkeys(records, found)


def tried(test: str) -> dict[str, Cell]:
    """A case of the library's, with the test that holds it."""
    return on(code(f"tests/unit/{test}"), DIFFUSERS)


def beside(*names: str) -> tuple[str, ...]:
    """Tests of neighbours by the names that they have in tests/host/neighbours, whoever brings them."""
    return tuple(f"test_neighbours.py::test_beside[{name} (*)]" for name in names)
