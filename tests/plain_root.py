"""A plugin of pytest that does not take the root for a package, which its __init__.py for ComfyUI makes it look like.

pytest would name every test after the folder of the checkout, and fail where that is called `todo`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from _pytest import pathlib as internal

ROOT = Path(__file__).resolve().parents[1]
_package = internal.resolve_package_path


def _package_within(path: Path) -> Path | None:
    found = _package(path)
    return ROOT / "tests" if found == ROOT and ROOT / "tests" in path.parents else found


internal.resolve_package_path = _package_within


@pytest.hookimpl(tryfirst=True)
def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    return pytest.Dir.from_parent(parent, path=path) if path == ROOT else None
