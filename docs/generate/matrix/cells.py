"""What the tables share: rows by short names of tests, cells, and results."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from docs.generate.compatibility import NONE, Cell, Row

code, source, none = partial(Cell, "code"), partial(Cell, "source"), partial(Cell, NONE)

TOGETHER = "both act"
COMPUTED = f"{TOGETHER}; ToDo acts in the steps that are computed"
ASIDE = "ToDo steps aside in the blocks that it {}, acts in the others, and says so in the log"
TILES, MERGES = ASIDE.format("tiles"), ASIDE.format("merges")
NO_EFFECT = "no effect: the image is the one without ToDo. The log says so once, with the kind of model"
COMPILES = "works; from torch 2.13 on, ToDo does not split the UNet into more graphs"


def row(case: str, result: str, tests: Iterable[str] = (), *cells: Cell, runs: tuple[str, ...] = ()) -> Row:
    """A row.

    Args:
        tests: 'page::live*' stands for test_page.py::test_live*. A name without colons is that of a neighbour in
            tests/host/neighbours, from any source.
    """
    names = [test.split("::") if "::" in test else ("neighbours", f"beside[{test} (*)]") for test in tests]
    return Row(case, result, tuple(f"test_{file}.py::test_{name}" for file, name in names), cells, runs)
