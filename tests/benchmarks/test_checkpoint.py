"""The commands on a checkpoint: what they write, that they go on where they were, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import environment
from benchmarks.commands import main
from benchmarks.fidelity import paper, results
from benchmarks.fidelity.methods import METHODS, PAPER, named
from benchmarks.method import DENSE
from benchmarks.pipeline.image_model import PipelineImageModel
from benchmarks.sampling import Request, Sampling
from tests.benchmarks.small_checkpoints import save_single_file
from tests.benchmarks.test_commands import refusal
from tests.benchmarks.test_pipeline import load

PAPER_2 = named(PAPER, 2)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=["sd1", "sdxl"])
def folder(request, small_checkpoints):
    return small_checkpoints[request.param]


def arguments(where, output, *more: str, prompts=("a lamp", "a boat")) -> list[str]:
    sampling = ["--size", "64", "--steps", "2", "--sampler", "ddim", "--dtype", "float32", "--device", "cpu"]
    return ["fidelity", "--pipeline", str(where), "--prompt", *prompts, *sampling, "--compare", PAPER_2,
            "--output", str(output), *more]  # fmt: skip


def read(output, name="fidelity") -> results.Result:
    (result,) = results.read(output / f"{name}.json")
    return result


def test_a_run_writes_results_plot_and_images(folder, tmp_path, capsys):
    assert main(arguments(folder, tmp_path)) == 0
    result = read(tmp_path)
    assert (result.model, result.sampling) == (folder.name, Sampling(2, "ddim", 5.0))
    assert (result.methods, result.prompts, result.sizes) == ([DENSE, PAPER_2], ["a lamp", "a boat"], [(64, 64)])
    assert {"torch", "diffusers", "transformers"} <= set(result.environment.versions)
    assert 0 < result.effective_keys((64, 64)) < 1
    image_model = PipelineImageModel(load(folder))
    request = Request("a boat", (0,), (64, 64), Sampling(2, "ddim", 5.0))
    dense = image_model.sample(request)
    with METHODS[PAPER_2].apply(image_model.unet, image_model.latent_size((64, 64))) as patch:
        downsampled = image_model.sample(request, patch)
    score = next(each for each in result.of(PAPER_2) if each.prompt == "a boat")
    assert score.mse == pytest.approx(float((dense - downsampled).square().mean()), rel=1e-2)
    assert score.kept[0] * 4 == result.of(DENSE)[0].kept[0]
    with Image.open(tmp_path / "fidelity" / "64×64 a-boat 0 dense.png") as image:
        np.testing.assert_allclose(np.asarray(image) / 255, image_model.decode(dense)[0], atol=0.01)
    assert len(list((tmp_path / "fidelity").glob("*.png"))) == 4
    assert (tmp_path / "fidelity.png").read_bytes().startswith(b"\x89PNG")
    assert f"{folder.name} · 2 prompts × 1 seed at each size · ddim, 2 steps, CFG 5" in capsys.readouterr().out


def test_an_interrupted_run_goes_on_where_it_was(small_checkpoints, tmp_path, monkeypatch):
    """It is interrupted in the second prompt, after dense. Only the missing images are made afterwards."""
    calls = []
    original = PipelineImageModel.sample

    def sample(self, request, patch=None):
        calls.append((request.prompt, patch is not None))
        if stops and calls[-1] == ("a boat", True):
            raise KeyboardInterrupt
        return original(self, request, patch)

    monkeypatch.setattr(PipelineImageModel, "sample", sample)
    stops = True
    with pytest.raises(KeyboardInterrupt):
        main(arguments(small_checkpoints["sd1"], tmp_path))
    stops = False
    calls.clear()
    assert main(arguments(small_checkpoints["sd1"], tmp_path)) == 0
    assert {prompt for prompt, _ in calls} == {"a boat"}
    assert sum(patched for _, patched in calls) == 1
    calls.clear()
    assert main(arguments(small_checkpoints["sd1"], tmp_path)) == 0
    assert calls == []
    assert main(arguments(small_checkpoints["sd1"], tmp_path, prompts=("a boat", "a tree"))) == 0
    assert {prompt for prompt, _ in calls} == {"a tree"}
    assert read(tmp_path).prompts == ["a lamp", "a boat", "a tree"]


def test_a_run_by_another_version_is_not_continued(small_checkpoints, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(environment, "made_by", lambda: "0.1.0 abc1234")
    assert main(arguments(small_checkpoints["sd1"], tmp_path, prompts=("a boat",))) == 0
    monkeypatch.setattr(environment, "made_by", lambda: "0.2.0 def5678")
    capsys.readouterr()
    message = refusal(capsys, *arguments(small_checkpoints["sd1"], tmp_path))
    assert "name: 'fidelity.json' has images with todo '0.1.0 abc1234', not '0.2.0 def5678'; choose" in message


def test_a_single_file_and_a_file_of_prompts(small_checkpoints, tmp_path):
    save_single_file(load(small_checkpoints["sd1"]), tmp_path / "model.safetensors")
    (tmp_path / "prompts.txt").write_text("a lamp\n\na boat\na lamp\n")
    command = arguments(tmp_path / "model.safetensors", tmp_path, "--config", str(small_checkpoints["sd1"]))
    start = command.index("--prompt")
    command[start : start + 3] = ["--prompts", str(tmp_path / "prompts.txt")]
    assert main(command) == 0
    assert (read(tmp_path).model, read(tmp_path).prompts) == ("model.safetensors", ["a lamp", "a boat"])


def test_the_papers_table_has_its_conditions_and_figures(small_checkpoints, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(paper, "SIZE", (96, 96))
    monkeypatch.setattr(paper, "SAMPLING", Sampling(2, "ddim", 7.5))
    command = ["fidelity", "--pipeline", str(small_checkpoints["sd1"]), "--paper", "--prompt", "a lamp"]
    assert main([*command, "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out.split("The paper's Table 1")[1]
    assert "6.25e-03" in printed
    result = read(tmp_path)
    rows = {row[0]: row[1:] for row in paper.table(result)[1]}
    assert rows[PAPER_2][:1] == ["6.25e-03"]
    assert rows["ToMe (tomesd), f=2"][2] == "4.30"
    assert rows["ToMe (tomesd), f=3"][2] == "4.28"
    assert rows[PAPER_2][2:4] == ["1.00", "1.00"]
    assert (rows[DENSE][-2:], rows[PAPER_2][-2]) == (["1.000", "1.000"], "1.008")
    assert rows["ToDo, f=2"][0] == ""


@pytest.mark.parametrize(("more", "message"), [
    (["--workers", "2"], "workers: a checkpoint is measured in one process"),
    (["--paper"], "size: is fixed by --paper"),
    (["--prompts", "x"], "prompt: cannot be combined with a file of prompts"),
    (["--size", "100"], "size: '100' is not allowed; it must be N or WxH in multiples of 64, up to 8192"),
    (["--name", "../up"], "name: '../up' is not allowed"),
    (["--pipeline", "nothing"], "pipeline: 'nothing' is not allowed; it must be a folder or hub id"),
])  # fmt: skip
def test_wrong_options_are_refused(small_checkpoints, tmp_path, capsys, more, message):
    assert message in refusal(capsys, *arguments(small_checkpoints["sd1"], tmp_path, *more))


@pytest.mark.parametrize("command", ["fidelity", "demo"])
@pytest.mark.parametrize("option", ["--config=x/y", "--device=cpu", "--dtype=float16"])
def test_options_of_a_checkpoint_need_one(capsys, command, option):
    name = option[2:].split("=")[0]
    assert f"{name}: goes with a checkpoint only; name one with --pipeline" in refusal(capsys, command, option)


@pytest.mark.parametrize(("text", "reason"), [(None, "No such file"), ("\n \n", "has no prompt"), ("\xff", "UTF-8")])
def test_a_file_without_prompts_is_refused(tmp_path, capsys, text, reason):
    if text is not None:
        (tmp_path / "prompts.txt").write_bytes(text.encode("latin-1"))
    message = refusal(capsys, "fidelity", "--pipeline", "x/y", "--prompts", str(tmp_path / "prompts.txt"))
    assert "prompts: " in message
    assert reason in message


def test_the_sheet_of_a_checkpoint(folder, tmp_path, capsys):
    command = ["demo", "--pipeline", str(folder), "--prompt", "a lamp", "--size", "128x64", "--steps", "2"]
    assert main([*command, "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    for line in ("“a lamp”", f"{folder.name}, 128×64, seed 0, dpm++ 2m, 2 steps, CFG 5", "\ndense: ",
                 "\nthe paper: ", "\nToDo, the defaults: ", "\nToDo, 32 per side: "):  # fmt: skip
        assert line in printed
    with Image.open(tmp_path / "demo.png") as image:
        assert image.width > 1000
    assert "grid: the sheet of a checkpoint has fixed settings" in refusal(capsys, *command, "--grid", "32")
