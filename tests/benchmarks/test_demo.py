"""The demo: two images from one seed, and what is said of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import demo
from benchmarks.commands import main
from benchmarks.tiny.model import load
from benchmarks.tiny.sampler import Request, Sampling, decode, sample
from todo import Settings


def test_it_shows_the_images_that_the_sampler_makes():
    model = load()
    request = Request("a rocket", (7,), (64, 64), Sampling(3))
    found = demo.make(model, request, Settings(mode="manual", factor=2))
    assert np.array_equal(found.dense, decode(model, sample(model, request))[0])
    assert not np.array_equal(found.todo, found.dense)
    assert {len(each) for each in found.seconds.values()} == {3}
    assert {(row.tokens, row.kept) for row in found.report if row.downsampled} == {(256, 64)}


def test_the_command_prints_a_table_and_writes_an_image(tmp_path, capsys):
    arguments = ["--prompt", "a cat", "--size", "128x64", "--factor", "4", "--mode", "manual", "--steps", "2"]
    assert main(["demo", *arguments, "--output", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    for line in ("'a cat', 128×64, seed 0, euler, 2 steps", "level 1: 512 → 32", "speed-up     ×", "PSNR", "SSIM"):
        assert line in said
    with Image.open(tmp_path / "demo.png") as image:
        assert image.width > 1000


def test_no_effect_is_said(tmp_path, capsys):
    assert main(["demo", "--size", "64", "--mode", "auto", "--steps", "1", "--output", str(tmp_path)]) == 0
    assert "no effect at this size" in capsys.readouterr().out


@pytest.mark.parametrize(("option", "value", "said"), [
    ("--prompt", "a dragon", "prompt: 'dragon' is not a word that the tiny model knows"),
    ("--size", "100", "size: '100' is not allowed"),
    ("--factor", "0.5", "factor"),
])  # fmt: skip
def test_what_it_cannot_make_is_refused(capsys, option, value, said):
    with pytest.raises(SystemExit) as stop:
        main(["demo", option, value])
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


def test_the_same_seed_makes_the_same_image():
    model = load()
    request = Request("a cat", (1,), (64, 64), Sampling(2))
    assert torch.equal(sample(model, request), sample(model, request))
