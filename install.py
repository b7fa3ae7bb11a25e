"""Checks what the extension needs, and says so if something is missing. Installs nothing: the host has it all."""

from __future__ import annotations

import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

PYTHON = (3, 10)
TORCH = (2, 0)


def problems(python: tuple[int, ...], torch: str | None, host: Path | None) -> list[str]:
    """What is missing, in words. `torch` is its version, None where it is not installed; `host` the folder of the
    WebUI's modules, None where this runs without a WebUI."""
    found = []
    if host and "InputAccordion" not in (host / "ui_components.py").read_text(encoding="utf8"):
        found.append("WebUI 1.6 or newer; this one is older")
    if python[:2] < PYTHON:
        found.append(f"Python {_text(PYTHON)} or newer; this is {_text(python[:2])}")
    if torch is None or _version(torch) < TORCH:
        found.append(f"PyTorch {_text(TORCH)} or newer; this is {torch or 'missing'}")
    return found


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("+")[0].split(".")[:2])


def _text(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _host() -> Path | None:
    spec = find_spec("modules")
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()] if spec else []
    return next((folder for folder in folders if (folder / "ui_components.py").is_file()), None)


def _torch() -> str | None:
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    for problem in problems(sys.version_info[:3], _torch(), _host()):
        print(f"ToDo needs {problem}. Please update your WebUI.")
