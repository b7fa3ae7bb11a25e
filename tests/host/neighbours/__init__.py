"""The neighbours that are tested together with ToDo in a running WebUI. Each file holds those of one host.

A neighbour is another extension, or a feature of the host, that changes generation or attention.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from tests.host.neighbours.neighbour import Neighbour

NEIGHBOURS: list[Neighbour] = [
    neighbour
    for module in sorted(found.name for found in iter_modules(__path__))
    for neighbour in getattr(import_module(f"{__name__}.{module}"), "NEIGHBOURS", [])
]
"""All neighbours. A host runs those for which it has the script and the options."""
