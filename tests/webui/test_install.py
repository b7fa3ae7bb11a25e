"""The files that the host runs and reads before it loads the script."""

from __future__ import annotations

import configparser
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.standin.host import ROOT, WEBUI

NEW_PYTHON = (3, 11, 4)
NEW_TORCH = "2.1.2+cu121"
HOST = WEBUI / "modules"


@pytest.fixture(scope="module")
def install():
    spec = importlib.util.spec_from_file_location("todo_install", ROOT / "install.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def old_host(tmp_path: Path) -> Path:
    """A WebUI before 1.6."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "__init__.py").touch()
    (modules / "ui_components.py").write_text("class FormRow: ...\n", encoding="utf8")
    return modules


def run(folder: Path) -> str:
    """The output of the file. Like a host, this runs it in a separate process with the host's folder on the path."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, str(ROOT / "install.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=folder)
    return done.stdout + done.stderr


@pytest.mark.parametrize("host", [None, HOST])
@pytest.mark.parametrize("torch", ["2.0.0", "2.0.1+cpu", "2.1.0a0+32f93b1", "2.13.0", "10.0.0.dev20300101"])
@pytest.mark.parametrize("python", [(3, 10, 0), (3, 13, 1)])
def test_supported_versions(install, python, torch, host):
    assert install.problems(python, torch, host) == []


@pytest.mark.parametrize(
    ("python", "torch", "problem"),
    [
        ((3, 9, 18), NEW_TORCH, "Python 3.10 or newer; this is 3.9"),
        (NEW_PYTHON, "1.13.1+cu117", "PyTorch 2.0 or newer; this is 1.13.1+cu117"),
        (NEW_PYTHON, None, "PyTorch 2.0 or newer; it is not installed"),
    ],
)
def test_old_versions_are_reported(install, python, torch, problem):
    assert install.problems(python, torch, HOST) == [problem]


def test_an_old_host_is_reported(install, old_host):
    assert install.problems(NEW_PYTHON, NEW_TORCH, old_host) == ["WebUI 1.6 or newer; this one is older"]


def test_everything_that_is_missing_is_reported(install, old_host):
    assert len(install.problems((3, 8, 0), None, old_host)) == 3


@pytest.mark.parametrize("where", ["webui", "nowhere"])
def test_it_prints_nothing_if_nothing_is_missing(where, tmp_path):
    assert run(WEBUI if where == "webui" else tmp_path) == ""


def test_it_warns_of_an_old_host(old_host):
    assert run(old_host.parent) == "ToDo needs WebUI 1.6 or newer; this one is older. Please update your WebUI.\n"


def test_it_does_not_mistake_another_package_for_a_host(tmp_path):
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "__init__.py").touch()
    assert run(tmp_path) == ""


def test_the_metadata_is_what_the_host_reads():
    metadata = configparser.ConfigParser()
    metadata.read(ROOT / "metadata.ini", encoding="utf8")
    assert metadata.sections() == ["Extension"]
    # The host converts the name to lower case and rejects other characters.
    assert metadata["Extension"]["Name"] == "sd-webui-todo"
