"""The neighbours that are tried beside ToDo in a running WebUI, one file for each host that brings some."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from tests.host.neighbours.neighbour import Neighbour

NEIGHBOURS: list[Neighbour] = [
    neighbour
    for module in sorted(found.name for found in iter_modules(__path__))
    for neighbour in getattr(import_module(f"{__name__}.{module}"), "NEIGHBOURS", [])
]
"""All of them. A host runs those whose script it lists and whose options it has."""
