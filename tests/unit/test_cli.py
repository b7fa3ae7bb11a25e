"""The command line: it says what todo.plan says, takes every setting of the table, and refuses in its words."""

from __future__ import annotations

import json
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
    assert main(["plan", "--width", "1024", "--height", "768"]) == 0
    lines = capsys.readouterr().out.splitlines()
    expected = todo.plan(1024, 768, todo.Settings())
    assert lines[0] == expected.summary()
    finest = expected.levels[0]
    assert lines[3].split() == ["1", "128×96", str(finest.tokens), str(finest.kept), "2", "5"]
    assert len(lines[3:6]) == len(expected.levels)
    assert lines[-2].split() == [
        "self-attention",
        *(f"{work / 1e9:.1f}" for work in (expected.attention.dense, expected.attention.todo)),
    ]
    assert lines[-1].split() == ["UNet", *(f"{work / 1e9:.1f}" for work in (expected.unet.dense, expected.unet.todo))]


def test_plan_says_when_there_is_no_effect(capsys):
    assert main(["plan", "--width", "512", "--height", "512"]) == 0
    assert "no effect" in capsys.readouterr().out.splitlines()[0]


def test_plan_json_is_the_plan(capsys):
    arguments = ["--width", "1536", "--height", "1024", "--family", "sdxl", "--factor", "3", "--max-downsample", "2"]
    assert main(["plan", "--json", *arguments]) == 0
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
    assert main(["plan", "--json", "--taper", "--end", "0.5"]) == 0
    expected = todo.plan(1024, 1024, todo.Settings(taper=True, end=0.5))
    assert json.loads(capsys.readouterr().out)["summary"] == expected.summary()


@pytest.mark.parametrize("command", ["plan", "bench"])
@pytest.mark.parametrize(
    ("name", "value"), [("grid", "7"), ("max_downsample", "3"), ("method", "lanczos"), ("taper", "perhaps")]
)
def test_a_wrong_setting_is_refused(capsys, command, name, value):
    said = refusal(capsys, command, f"--{name.replace('_', '-')}", value)
    assert f"{name}: '{value}' is not allowed" in said
    assert KNOBS[name].allowed in said


def test_settings_that_contradict_are_refused(capsys):
    assert "start: 0.7 is after end, 0.5" in refusal(capsys, "plan", "--start", "0.7", "--end", "0.5")
    assert "mode: factor, grid" in refusal(capsys, "bench", "--factor", "2", "--grid", "32")


@pytest.mark.parametrize(
    ("name", "value", "allowed"), [("width", "32", "from 64"), ("family", "sd9", "sd1, sd2, sdxl")]
)
def test_a_wrong_picture_is_refused(capsys, name, value, allowed):
    said = refusal(capsys, "plan", f"--{name}", value)
    assert f"{name}: '{value}' is not allowed" in said
    assert allowed in said


@pytest.mark.parametrize("value", ["1000", "768x1000", "0", "x", "64x64x64", "20480"])
def test_a_wrong_size_is_refused(capsys, value):
    assert "not allowed" in refusal(capsys, "bench", "--size", value)


def test_wrong_rounds_are_refused(capsys):
    assert "rounds: '0' is not allowed; it must be a whole number from 1" in refusal(capsys, "bench", "--rounds", "0")


def test_bench_gets_what_was_asked_for(monkeypatch, tmp_path):
    report = pytest.importorskip("todo.bench.report")
    calls = []

    def run(*arguments):
        calls.append(arguments)
        return report.Result(None, 0, (), identical=len(calls) == 1)

    monkeypatch.setattr(report, "run", run)
    asked = ["bench", "--size", "512", "1024x768", "512", "--rounds", "5", "--output", str(tmp_path), "--factor", "3"]
    assert main(asked) == 0
    assert calls[0] == ([(512, 512), (1024, 768)], [todo.Settings(factor=3)], 5, tmp_path)
    # An output that patching changed for good is a failure.
    assert main(["bench"]) == 1
    (size,) = calls[1][0]
    assert not todo.plan(*size, calls[1][1][0]).note
    assert calls[1][1][0] == todo.Settings()


def test_plan_needs_only_torch_and_einops(root):
    """And bench says what would install the rest."""
    code = """
import sys
for name in ("ldm", "matplotlib", "tqdm", "diffusers", "gradio"):
    sys.modules[name] = None
from todo.__main__ import main
assert main(["plan"]) == 0
assert main(["bench"]) == 1
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1024×1024: ")
    assert len(done.stderr.splitlines()) == 1
    assert "`make demo` installs" in done.stderr
