"""The demo: two images from one seed, and their table."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from benchmarks import demo
from benchmarks.commands import main
from benchmarks.sampling import Request, Sampling
from benchmarks.tiny.sampler import decode, sample
from todo import Settings


def test_the_demo_shows_the_images_that_the_sampler_makes(tiny_model):
    request = Request("a rocket", (7,), (64, 64), Sampling(3))
    result = demo.make(tiny_model, request, Settings(mode="manual", factor=2))
    assert np.array_equal(result.dense, decode(tiny_model, sample(tiny_model, request))[0])
    assert not np.array_equal(result.todo, result.dense)
    assert {len(rounds) for rounds in result.seconds.values()} == {3}
    assert {(row.tokens, row.kept) for row in result.report if row.downsampled} == {(256, 64)}


def test_the_command_prints_a_table_and_writes_an_image(tmp_path, capsys):
    arguments = ["--prompt", "a cat", "--size", "128x64", "--factor", "4", "--mode", "manual", "--steps", "2"]
    assert main(["demo", *arguments, "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    for line in ("'a cat', 128×64, seed 0, euler, 2 steps", "level 1: 512 → 32", "speed-up     ×", "PSNR", "SSIM"):
        assert line in printed
    with Image.open(tmp_path / "demo.png") as image:
        assert image.width > 1000


def test_no_effect_is_reported(tmp_path, capsys):
    assert main(["demo", "--size", "64", "--mode", "auto", "--steps", "1", "--output", str(tmp_path)]) == 0
    assert "no effect at this size" in capsys.readouterr().out


@pytest.mark.parametrize(("option", "value", "message"), [
    ("--prompt", "a dragon", "prompt: 'dragon' is not a word that the tiny model knows"),
    ("--size", "100", "size: '100' is not allowed"),
    ("--factor", "0.5", "factor"),
])  # fmt: skip
def test_wrong_options_are_refused(capsys, option, value, message):
    with pytest.raises(SystemExit) as stop:
        main(["demo", option, value])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
