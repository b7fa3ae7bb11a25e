"""The command line: it says what todo.plan says, takes every setting of the table, and refuses in its words."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import todo
from todo.__main__ import main
from todo.settings import KNOBS


def refusal(capsys, *arguments: str) -> str:
    """The message with which arguments are refused."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    return said.err.splitlines()[-1]


def test_plan_prints_summary_levels_and_work(capsys):
    main(["plan", "--width", "1024", "--height", "768"])
    lines = capsys.readouterr().out.splitlines()
    expected = todo.plan(1024, 768, todo.Settings())
    assert lines[0] == expected.summary()
    finest = expected.levels[0]
    assert lines[3].split() == ["1", "128×96", str(finest.tokens), str(finest.kept), f"{finest.factor:.4g}", "5"]
    assert len(lines[3:6]) == len(expected.levels)
    assert lines[-2].split() == [
        "self-attention",
        *(f"{work / 1e9:.1f}" for work in (expected.attention.dense, expected.attention.todo)),
    ]
    assert lines[-1].split() == ["UNet", *(f"{work / 1e9:.1f}" for work in (expected.unet.dense, expected.unet.todo))]


def test_plan_says_when_there_is_no_effect(capsys):
    main(["plan", "--width", "512", "--height", "512", "--steps", "4"])
    assert "no effect" in capsys.readouterr().out.splitlines()[0]


def test_plan_json_is_the_plan(capsys):
    arguments = ["--width", "1536", "--height", "1024", "--family", "sdxl", "--factor", "3", "--max-downsample", "2"]
    main(["plan", "--json", *arguments])
    expected = todo.plan(1536, 1024, todo.Settings(factor=3, max_downsample=2), "sdxl")
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(expected.to_dict()))


def test_every_setting_is_an_option(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["plan", "--help"])
    assert stop.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    for name, knob in KNOBS.items():
        assert f"--{name.replace('_', '-')} " in said
        assert " ".join(knob.help.split()) in said


def test_taper_needs_no_value(capsys):
    main(["plan", "--json", "--taper", "--end", "0.5"])
    expected = todo.plan(1024, 1024, todo.Settings(taper=True, end=0.5))
    assert json.loads(capsys.readouterr().out)["summary"] == expected.summary()


@pytest.mark.parametrize(
    ("name", "value"), [("grid", "7"), ("max_downsample", "3"), ("method", "lanczos"), ("taper", "perhaps")]
)
def test_a_wrong_setting_is_refused(capsys, name, value):
    said = refusal(capsys, "plan", f"--{name.replace('_', '-')}", value)
    assert f"{name}: '{value}' is not allowed" in said
    assert KNOBS[name].allowed in said


def test_settings_that_contradict_are_refused(capsys):
    assert "start: 0.7 is after end 0.5" in refusal(capsys, "plan", "--start", "0.7", "--end", "0.5")
    assert "mode: factor, grid" in refusal(capsys, "plan", "--factor", "2", "--grid", "32")


@pytest.mark.parametrize(
    ("name", "value", "allowed"), [("width", "32", "from 64"), ("family", "sd9", "sd1, sd2, sdxl")]
)
def test_a_wrong_image_is_refused(capsys, name, value, allowed):
    said = refusal(capsys, "plan", f"--{name}", value)
    assert f"{name}: '{value}' is not allowed" in said
    assert allowed in said


def run_plan(*arguments: str, root, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """`python -m todo plan` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "todo", "plan", *arguments],
        cwd=root, capture_output=True, check=False, env={**os.environ, **environment},
    )  # fmt: skip


def test_plan_needs_only_torch_and_einops(root):
    code = """
import sys
for name in ("ldm", "matplotlib", "numpy", "tqdm", "diffusers", "gradio", "PIL", "skimage"):
    sys.modules[name] = None
from todo.__main__ import main
main(["plan"])
assert not [name for name in sys.modules if name.partition(".")[0] == "benchmarks"]
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1024×1024: ")


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_a_console_that_lacks_characters_is_no_error(root, encoding):
    done = run_plan("--grid", "64", root=root, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert f"up to 1.5{'?' if encoding == 'ascii' else '×'} faster" in done.stdout.decode(encoding)


def test_the_version(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.strip() == todo.__version__
