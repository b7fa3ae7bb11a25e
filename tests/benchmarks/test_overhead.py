"""The measurement of the patch's own time: which hooks it times, and what it makes of the times."""

from __future__ import annotations

import torch

from benchmarks.environment import made_by
from benchmarks.speed import overhead
from benchmarks.speed.models import build_unet
from tests.unit.small_models import hook_counts


def test_every_hook_of_a_call_is_timed(monkeypatch):
    """One of the network, two of each transformer, three of each block; acting takes more than idle."""
    unet = build_unet("sd1", torch.device("cpu"), torch.float32, 32)
    timed = []
    seconds = overhead._seconds
    monkeypatch.setattr(overhead, "_seconds", lambda made: timed.append(len(made)) or seconds(made))
    measured = overhead.measure(unet, "sd1", 2)
    assert timed == 4 * [1 + 2 * 15 + 3 * 15]
    assert measured["blocks"] == 15
    assert 0 < measured["idle"] < measured["acting"]
    assert hook_counts(unet) == {}


def test_the_figures_come_back_from_their_file(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(overhead, "measure", lambda *_: {"blocks": 60, "idle": 2.04, "acting": 14.5})
    threads = torch.get_num_threads()
    overhead.run(2, tmp_path, "o")
    torch.set_num_threads(threads)
    about, _, _, _, sd1, sdxl = overhead.as_markdown(tmp_path / "o.json").splitlines()
    assert about.startswith(f"ToDo {made_by()} · torch {torch.__version__}")
    assert sdxl == "| SDXL | 60 | 2.0 | 14.5 |" == sd1.replace("SD1.5", "SDXL")
    assert "SDXL" in capsys.readouterr().out
