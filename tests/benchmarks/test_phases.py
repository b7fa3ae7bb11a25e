"""Alternative patterns of kept tokens: which tokens they keep, and that they take effect."""

from __future__ import annotations

import pytest
import torch

from benchmarks.fidelity import phases
from benchmarks.fidelity.methods import METHODS
from benchmarks.fidelity.phases import OFFSETS, ORDERS
from benchmarks.sampling import Request, Sampling
from benchmarks.tiny.sampler import sample
from todo import downsample

REQUEST = Request("a cat", (0, 1), (64, 64), Sampling(5))


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("cell", [1, 2, 3, 4, 5, 8])
def test_an_order_has_all_positions_of_a_cell_and_begins_with_the_papers(order, cell):
    positions = order(cell)
    assert positions[0] == (0, 0)
    assert sorted(positions) == [(row, column) for row in range(cell) for column in range(cell)]


@pytest.mark.parametrize("offsets", OFFSETS.values(), ids=OFFSETS)
@pytest.mark.parametrize("cell", [2, 3, 4])
def test_offsets_keep_each_position_of_each_cell_once(offsets, cell):
    rows, columns = 2 * cell + 1, cell + 1
    kept = [set() for _ in range(rows * columns)]
    for first in downsample.phase_order(cell):
        down, across = (plane.expand(rows, columns) % cell for plane in offsets(cell, first, rows, columns, "cpu"))
        for index, position in enumerate(zip(down.flatten().tolist(), across.flatten().tolist(), strict=True)):
            kept[index].add(position)
    assert all(len(positions) == cell**2 for positions in kept)


@pytest.mark.parametrize("phase", [0, 1, 5])
def test_offsets(phase):
    """Aligned cells are all equal, staggered ones within a row; dithered ones repeat every `cell` cells."""
    order = downsample.phase_order(3)
    first = order[phase]
    down, across = phases.aligned(3, first, 4, 5, "cpu")
    assert set(zip(down.flatten().tolist(), across.flatten().tolist(), strict=True)) == {order[phase]}
    down, across = phases.staggered(3, first, 4, 5, "cpu")
    assert down.unique().tolist() == [order[phase][0]]
    assert across.tolist() == [[order[phase][1] + row] * 5 for row in range(4)]
    down, across = phases.dithered(3, first, 4, 5, "cpu")
    assert (int(down[0, 0]), int(across[0, 0])) == order[phase]
    assert torch.equal(across[3], across[0])
    assert torch.equal(down[:, :2], down[:, 3:])
    assert len(set(zip(down[:3, :3].flatten().tolist(), across[:3, :3].flatten().tolist(), strict=True))) == 9


@pytest.mark.parametrize("name", [name for name in METHODS if "phases" in name])
def test_another_pattern_makes_another_image_repeatably(tiny_model, name):
    latents = []
    for method in (f"ToDo, finest level, f={METHODS[name].factor:g}", name, name):
        with METHODS[method].apply(tiny_model.unet, (16, 16)) as patch:
            latents.append(sample(tiny_model, REQUEST, patch))
    assert not torch.equal(latents[0], latents[1])
    assert torch.equal(latents[1], latents[2])
