"""Checks the requirements and prints what is missing. Installs nothing, because the host brings everything needed."""

from __future__ import annotations

import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

PYTHON = (3, 10)
TORCH = (2, 0)


def problems(python: tuple[int, ...], torch: str | None, host: Path | None) -> list[str]:
    """The requirements that are not met, as text.

    Args:
        python: Python's version.
        torch: torch's version; None if it is not installed.
        host: the folder of the WebUI's `modules`; None outside a WebUI.
    """
    missing = []
    if host and "InputAccordion" not in (host / "ui_components.py").read_text(encoding="utf8"):
        missing.append("WebUI 1.6 or newer; this one is older")
    if python[:2] < PYTHON:
        missing.append(f"Python {_text(PYTHON)} or newer; this is {_text(python[:2])}")
    if torch is None or _version(torch) < TORCH:
        current = f"this is {torch}" if torch else "it is not installed"
        missing.append(f"PyTorch {_text(TORCH)} or newer; {current}")
    return missing


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
