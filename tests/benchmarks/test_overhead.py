"""The measurement of the patch's own time: which states it times, and what it makes of the times."""

from __future__ import annotations

from dataclasses import asdict

import torch

from benchmarks import output
from benchmarks.environment import describe
from benchmarks.speed import overhead
from benchmarks.speed.models import build_unet
from tests.unit.small_models import hook_counts


def test_each_state_is_what_it_is_called(monkeypatch):
    """Dense has no hook, idle one, acting some on every block."""
    monkeypatch.setattr("todo.network.has_compiled", lambda: False)
    unet = build_unet("sd1", torch.device("cpu"), torch.float32, 32)
    hooks = []

    def call(unet, given):
        with torch.inference_mode():
            unet(given.latent, given.timesteps, given.context)
        hooks.append(sum(bool(module._forward_pre_hooks) for module in unet.modules()))

    monkeypatch.setattr(overhead, "call", call)
    monkeypatch.setattr(overhead, "_CALLS", 1)
    measured = overhead.measure(unet, "sd1", 2)
    transformers = blocks = 15
    acting = 1 + transformers + 3 * blocks
    assert hooks == [0, 0, 1, 1, acting, acting, 1, 1, acting, acting, 0, 0]
    assert (measured.model, measured.blocks) == ("sd1", blocks)
    assert {len(each) for each in measured.microseconds.values()} == {2}
    assert hook_counts(unet) == {}


def test_costs_are_taken_round_by_round():
    row = overhead.Overhead("sdxl", 60, {"dense": (100.0, 200.0), "idle": (101.0, 200.5), "acting": (110.0, 214.0)})
    assert row.extra("idle") == (0.75, 0.625, 0.875)
    assert row.extra("acting") == (12.0, 11.0, 13.0)


def test_the_figures_come_back_from_their_file(tmp_path):
    unet = build_unet("sd1", torch.device("cpu"), torch.float32, 32)
    row = overhead.Overhead("sdxl", 60, {"dense": (100.0,), "idle": (101.0,), "acting": (110.0,)})
    found = overhead.Overheads(describe(unet), (row,))
    output.write_json(asdict(found), tmp_path / "overhead.json")
    assert overhead.read(tmp_path / "overhead.json") == found
    head, ((layout, blocks, dense, idle, acting),) = overhead.cells(found)
    assert (layout, blocks, dense) == ("SDXL", "60", "6.0")
    assert (idle, acting) == ("1.0 (1.0–1.0)", "10.0 (10.0–10.0)")
    assert len(head) == 5
