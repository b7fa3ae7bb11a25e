"""The command line: it says what todo.plan says, takes every setting of the table, and refuses in its words."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

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


@pytest.mark.parametrize("value", ["1000", "768x1000", "0", "x", "512x", "64x64x64", "20480"])
def test_a_wrong_size_is_refused(capsys, value):
    assert "not allowed" in refusal(capsys, "bench", "--size", value)


@pytest.mark.parametrize("option", ["--rounds", "--batch", "--threads", "--steps", "--memory"])
def test_wrong_numbers_are_refused(capsys, option):
    assert "'0' is not allowed; it must be a whole number from 1" in refusal(capsys, "bench", option, "0")


def test_published_sizes_cannot_be_chosen(capsys):
    assert "published: has sizes, methods and" in refusal(capsys, "bench", "--published", "--size", "512")


def test_an_unknown_method_is_refused(capsys):
    assert "compare: 'tome' is not allowed" in refusal(capsys, "bench", "--compare", "tome")


def test_bench_gets_what_was_asked_for(monkeypatch, tmp_path):
    run = pytest.importorskip("todo.bench.run")
    from todo.bench import cases, methods

    tasks = []

    def measured(task):
        tasks.append(task)
        return SimpleNamespace(identical=len(tasks) == 1, interrupted=False)

    monkeypatch.setattr(run, "run", measured)
    asked = ["--model", "sd2", "--size", "512", "1024x768", "--rounds", "5", "--batch", "2", "--device", "cpu"]
    asked += ["--dtype", "bfloat16", "--threads", "1", "--output", str(tmp_path), "--name", "mine", "--factor", "3"]
    assert main(["bench", *asked]) == 0
    wanted = (methods.METHODS["dense"], methods.todo_method(todo.Settings(factor=3)))
    listed = tuple(cases.Case(size, wanted, 5) for size in ((512, 512), (1024, 768)))
    made = tasks[0]
    assert [(case.size, [each.name for each in case.methods], case.rounds) for case in made.cases] == [
        (case.size, [each.name for each in case.methods], case.rounds) for case in listed
    ]
    assert (made.model, made.dtype, made.batch, made.threads) == ("sd2", "bfloat16", 2, 1)
    assert (made.folder, made.name) == (tmp_path, "mine")
    # An output that a method changed for good is a failure.
    assert main(["bench", "--device", "cpu"]) == 1


def test_memory_is_worked_out(monkeypatch, tmp_path):
    run = pytest.importorskip("todo.bench.run")
    asked = []
    monkeypatch.setattr(run, "run_fits", lambda *arguments: asked.append(arguments))
    arguments = ["bench", "--memory", "8", "--batch", "2", "--model", "sdxl", "--output", str(tmp_path)]
    assert main(arguments) == 0
    assert asked == [("sdxl", 2, 8, tmp_path, "bench")]


def test_plan_needs_only_torch_and_einops(root):
    """And bench says what would install the rest."""
    code = """
import sys
for name in ("ldm", "matplotlib", "tqdm", "diffusers", "gradio"):
    sys.modules[name] = None
from todo.__main__ import main
assert main(["plan"]) == 0
assert main(["bench"]) == 1
for name in ("matplotlib", "tqdm", "diffusers"):
    del sys.modules[name]
assert main(["bench", "--device", "cpu"]) == 1
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1024×1024: ")
    for package, said in zip(("matplotlib", "ldm"), done.stderr.splitlines(), strict=True):
        assert said.startswith(f"todo bench needs the package '{package}")
        assert said.endswith("`make demo` installs it")
