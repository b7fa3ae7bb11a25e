"""The measurement of the patch's own time: which hooks it times, and what it makes of the times."""

from __future__ import annotations

from dataclasses import asdict

import torch

from benchmarks import output
from benchmarks.environment import describe
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
    assert (measured.model, measured.blocks) == ("sd1", 15)
    assert 0 < measured.idle < measured.acting
    assert hook_counts(unet) == {}


def test_the_figures_come_back_from_their_file(tmp_path):
    unet = build_unet("sd1", torch.device("cpu"), torch.float32, 32)
    found = overhead.Overheads(describe(unet), (overhead.Overhead("sdxl", 60, 2.04, 14.5),))
    output.write_json(asdict(found), tmp_path / "overhead.json")
    assert overhead.read(tmp_path / "overhead.json") == found
    assert overhead.cells(found)[1] == [["SDXL", "60", "2.0", "14.5"]]
