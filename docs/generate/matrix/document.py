"""The whole document: its introduction, hosts and tables."""

from __future__ import annotations

from docs.generate.compatibility import document
from docs.generate.matrix.attention import ATTENTION
from docs.generate.matrix.extension import THE_EXTENSION
from docs.generate.matrix.hosts import HOSTS
from docs.generate.matrix.library import LIBRARY
from docs.generate.matrix.models import MODELS
from docs.generate.matrix.neighbours import NEIGHBOURS

INTRODUCTION = """
# Compatibility

What was tried where, and what came of it. `make docs` makes this page from the rows in
`docs/generate/matrix` and the records in `tests/host/records`, which the tests against a running WebUI wrote. A test
keeps it up to date.

| a cell says | which means |
|---|---|
| live | a test passed in the real host. Beside a neighbour that is: the picture equals one made with the neighbour and an independent second downsampling, and differs from the neighbour's alone unless ToDo steps aside; afterwards the neighbour's picture and the dense one have their bits again, and no hook is left |
| code | the real code, in a test without a WebUI |
| source | read in the source, at the place that the note names |
| none | there is no such thing on this host; the note says why |

All was run on a CPU with small checkpoints of random weights, which take the same way through a host as large ones.
"""  # noqa: E501

TABLES = (THE_EXTENSION, MODELS, ATTENTION, NEIGHBOURS, LIBRARY)


def generate() -> str:
    return document(INTRODUCTION, HOSTS, TABLES)
