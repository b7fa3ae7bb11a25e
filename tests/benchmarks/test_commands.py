"""The benchmarks' command line: what it passes on, how it refuses wrong options, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.commands import main
from todo.settings import KNOBS

ROOT = Path(__file__).parents[2]
FIDELITY = ["fidelity", "--size", "64", "--steps", "2", "--prompt", "a cat", "--compare", "ToDo, f=2"]


def refusal(capsys, *arguments: str) -> str:
    """The error message for wrong arguments."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err.splitlines()[-1]


@pytest.mark.parametrize("value", ["1000", "768x1000", "0", "x", "512x", "64x64x64", "20480"])
def test_a_wrong_size_is_refused(capsys, value):
    assert "not allowed" in refusal(capsys, "speed", "--size", value)


@pytest.mark.parametrize(
    ("command", "option"),
    [
        *(("speed", option) for option in ("rounds", "batch", "threads", "steps")),
        *(("fidelity", option) for option in ("steps", "seeds", "workers", "sharpness", "guidance")),
        ("study", "workers"),
        *(("demo", option) for option in ("steps", "seed", "guidance")),
    ],
)
@pytest.mark.parametrize("value", ["-1", "nan", "1e30", "many", ""])
def test_wrong_numbers_are_refused(capsys, command, option, value):
    message = refusal(capsys, command, f"--{option}={value}")
    assert f"argument --{option}: {option}: {value!r} is not allowed; it must be a" in message


@pytest.mark.parametrize(
    ("name", "value"), [("grid", "7"), ("max_downsample", "3"), ("method", "lanczos"), ("taper", "perhaps")]
)
def test_a_wrong_setting_is_refused(capsys, name, value):
    message = refusal(capsys, "speed", f"--{name.replace('_', '-')}", value)
    assert f"{name}: '{value}' is not allowed" in message
    assert KNOBS[name].allowed in message


def test_contradictory_settings_are_refused(capsys):
    assert "mode: factor, grid" in refusal(capsys, "demo", "--factor", "2", "--grid", "32")


def test_published_sizes_cannot_be_chosen(capsys):
    assert "published: fixes sizes, methods and" in refusal(capsys, "speed", "--published", "--size", "512")


@pytest.mark.parametrize("command", ["speed", "fidelity"])
def test_an_unknown_method_is_refused(capsys, command):
    assert "compare: 'tome' is not allowed" in refusal(capsys, command, "--compare", "tome")


@pytest.mark.parametrize("command", [["speed"], ["overhead"], ["fidelity"], ["study"], ["demo"]])
def test_output_that_cannot_be_written_is_refused_before_the_run(capsys, tmp_path, command):
    """A file has the folder's name, or a folder has the file's."""
    (tmp_path / "file").write_text("")
    for ending in ("json", "png"):
        (tmp_path / f"taken.{ending}").mkdir()
    assert "output: " in refusal(capsys, *command, "--output", str(tmp_path / "file" / "below"))
    assert "cannot be written: Is a directory" in refusal(
        capsys, *command, "--output", str(tmp_path), "--name", "taken"
    )
    assert "name: '../up' is not allowed" in refusal(capsys, *command, "--output", str(tmp_path), "--name", "../up")


def test_speed_gets_its_options(monkeypatch, tmp_path):
    from benchmarks.speed import run

    tasks = []
    monkeypatch.setattr(run, "run", tasks.append)
    arguments = ["--model", "sd2", "--size", "512", "1024x768", "--rounds", "5", "--batch", "2", "--device", "cpu"]
    arguments += ["--dtype", "bfloat16", "--threads", "1", "--output", str(tmp_path), "--name", "mine", "--factor", "3"]
    assert main(["speed", *arguments]) == 0
    task = tasks[0]
    assert [(case.size, [method.name for method in case.methods], case.rounds) for case in task.cases] == [
        ((512, 512), ["dense", "ToDo factor 3"], 5),
        ((1024, 768), ["dense", "ToDo factor 3"], 5),
    ]
    assert (task.model, task.dtype, task.batch, task.threads) == ("sd2", "bfloat16", 2, 1)
    assert (task.folder, task.name) == (tmp_path, "mine")


def test_a_missing_package_is_reported_with_how_to_install_it(tmp_path):
    code = """
import sys
sys.modules[sys.argv[1]] = None
from benchmarks import interrupt
from benchmarks.__main__ import main
del sys.argv[1]
sys.exit(interrupt.run(main))
"""
    for package, command in (("matplotlib", "speed"), ("ldm", "demo"), ("tqdm", "fidelity")):
        done = subprocess.run(
            [sys.executable, "-c", code, package, command, "--output", str(tmp_path)],
            cwd=ROOT, capture_output=True, encoding="utf-8", check=False,
        )  # fmt: skip
        assert done.returncode == 1
        assert re.fullmatch(rf"The package '{package}\S*' is missing; `make demo` installs it\n", done.stderr)


# --- signals, in a separate process


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", start_new_session=True,
        env={**os.environ, **environment},
    )  # fmt: skip


def wait_for(path: Path) -> None:
    for _ in range(600):
        if path.exists():
            return
        time.sleep(0.1)
    raise AssertionError(f"{path} was not written")


def processes_of(session: int) -> list[str]:
    """The command lines of a session's processes."""
    commands = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == session and fields[0] != "Z":
                    commands.append((entry / "cmdline").read_text())
            except OSError:
                continue
    return commands


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to list processes")
@pytest.mark.parametrize("receiver", ["all", "parent"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_a_fidelity_run_and_its_workers(tmp_path, number, receiver):
    """Ctrl-C in a terminal reaches all processes. A service manager or another program signals only the parent."""
    running = start(*FIDELITY, "--seeds", "4000", "--workers", "2", "--output", str(tmp_path))
    wait_for(tmp_path / "fidelity.json")
    (os.killpg if receiver == "all" else os.kill)(running.pid, number)
    _, printed = running.communicate(timeout=30)
    for _ in range(50):
        if not (left := processes_of(running.pid)):
            break
        time.sleep(0.1)
    assert left == []
    assert "Traceback" not in printed
    if number is not signal.SIGKILL:
        assert running.returncode == 130
        last = printed.strip().splitlines()[-1]
        assert last.startswith(f"Interrupted: {tmp_path / 'fidelity.json'} has ")
        assert last.endswith(" of 8000 images; the same command goes on there.")


def test_a_long_operation_is_interrupted():
    """Python's own handler would wait until the operation ends."""
    code = """
import os, signal, sys, threading, time
from benchmarks import interrupt

def block():
    import torch
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    a = torch.rand(6000, 6000, dtype=torch.float64)
    for _ in range(4):
        torch.linalg.matrix_exp(a)
    return 0

interrupt.kept.text = "all of it was kept"
sys.exit(interrupt.run(block))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8", check=False, timeout=60
    )
    assert done.returncode == 130
    assert done.stderr == "\nInterrupted: all of it was kept.\n"
