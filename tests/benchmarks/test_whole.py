"""Whole images of a checkpoint are timed by part, with every method, and memory that does not suffice is a result."""

from __future__ import annotations

import json
import re

import pytest
import torch

from benchmarks.commands import main
from benchmarks.pipeline.image_model import PipelineImageModel
from tests.benchmarks.test_commands import refusal


def arguments(where, output, *more: str) -> list[str]:
    return ["speed", "--pipeline", str(where), "--size", "64", "--steps", "2", "--rounds", "2", "--threads", "1",
            "--device", "cpu", "--output", str(output), *more]  # fmt: skip


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_each_method_is_timed_by_part(small_checkpoints, tmp_path, capsys, family):
    command = arguments(
        small_checkpoints[family], tmp_path, "--compare", "limit", "--factor", "2", "--size", "64", "128x64"
    )
    assert main(command) == 0
    values = json.loads((tmp_path / "speed.json").read_text(encoding="utf8"))
    assert (values["model"], values["sampling"]["steps"]) == (small_checkpoints[family].name, 2)
    assert [size["size"] for size in values["sizes"]] == [[64, 64], [64, 128]]
    for size in values["sizes"]:
        assert list(size["seconds"]) == ["dense", "limit", "ToDo factor 2"]
        for rounds in size["seconds"].values():
            assert len(rounds) == 2
            assert all(set(each) == {"text encoder", "loop", "VAE"} and min(each.values()) > 0 for each in rounds)
    printed = capsys.readouterr().out
    assert f"{small_checkpoints[family].name} · an image at once · dpm++ 2m, 2 steps, CFG 5 · ToDo " in printed
    assert len(re.findall("\n128×64  +ToDo factor 2  ", printed)) == 1


def test_images_that_do_not_fit_are_a_result(small_checkpoints, tmp_path, capsys, monkeypatch):
    original = PipelineImageModel.denoise

    def denoise(self, request, embeddings, patch=None):
        if patch is None:
            raise RuntimeError("CUDA out of memory")
        return original(self, request, embeddings, patch)

    monkeypatch.setattr(PipelineImageModel, "denoise", denoise)
    assert main(arguments(small_checkpoints["sd1"], tmp_path, "--factor", "2", "--batch", "2")) == 0
    values = json.loads((tmp_path / "speed.json").read_text(encoding="utf8"))
    assert values["batch"] == 2
    assert values["sizes"][0]["seconds"]["dense"] == [None, None]
    assert None not in values["sizes"][0]["seconds"]["ToDo factor 2"]
    rows = {re.split("  +", line)[1]: line for line in capsys.readouterr().out.splitlines() if line[:7] == "64×64  "}
    assert "does not fit in memory" in rows["dense"]
    assert "×" not in rows["ToDo factor 2"].removeprefix("64×64")


@pytest.mark.parametrize(("more", "message"), [
    (["--published"], "published: goes with random weights only, not with --pipeline"),
    (["--model", "sdxl"], "model: goes with random weights only"),
    (["--size", "100"], "size: '100' is not allowed"),
    (["--compare", "x"], "compare: 'x' is not allowed"),
])  # fmt: skip
def test_wrong_options_are_refused(small_checkpoints, tmp_path, capsys, more, message):
    assert message in refusal(capsys, *arguments(small_checkpoints["sd1"], tmp_path, *more))


@pytest.mark.parametrize("option", ["--sampler=ddim", "--guidance=2", "--prompt=x", "--config=x/y"])
def test_options_of_a_checkpoint_need_one(capsys, option):
    assert f"{option[2:].split('=')[0]}: goes with a checkpoint only" in refusal(capsys, "speed", option)
