"""The demo: an image, dense and with ToDo, from the same noise, and what is printed about them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from benchmarks import demo
from benchmarks.commands import main
from benchmarks.fidelity.scores import score
from benchmarks.sampling import Request, Sampling
from benchmarks.tiny.sampler import TinyImageModel
from todo import Settings


def test_it_draws_both_images_and_their_difference(tiny_model):
    request = Request("a rocket", (7,), (64, 64), Sampling(3))
    panels = demo.with_settings(Settings(mode="manual", factor=2))
    made = list(score(TinyImageModel(tiny_model), request, panels.values(), perceptual=False))
    (_, dense), (found, todo) = made
    drawn = demo.sheet("the embedded model", request, panels, made)
    shown = [axes.get_images()[0].get_array() for axes in drawn.axes]
    assert (shown[0] == dense).all()
    assert (shown[1] == todo).all()
    np.testing.assert_allclose(shown[2], (8 * abs(todo - dense)).clip(0, 1))
    assert found.kept == (64, 64, 16)


def test_the_command_says_what_it_made(tmp_path, capsys):
    arguments = ["--prompt", "a cat", "--size", "128x64", "--factor", "4", "--mode", "manual", "--steps", "2"]
    assert main(["demo", *arguments, "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    for text in ("“a cat”\nthe embedded model, 128×64, seed 0, dpm++ 2m, 2 steps, CFG 5", "\nToDo, factor 4: ",
                 "32 of 512 keys/values", "(×", "PSNR", "SSIM"):  # fmt: skip
        assert text in printed
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
