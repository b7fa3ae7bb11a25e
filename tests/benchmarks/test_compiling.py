"""The count of what runs compiled, on a small UNet."""

from __future__ import annotations

import logging
from dataclasses import asdict

import pytest
import torch

from benchmarks import output
from benchmarks.speed import compiling
from tests.unit.test_compile import sd1_unet


def test_a_unet_is_counted_dense_and_with_todo(monkeypatch, tmp_path):
    if not hasattr(torch, "compiler"):
        pytest.skip("torch 2.0 compiles no hooks")
    monkeypatch.setattr(logging.getLogger("torch.__trace"), "disabled", True)  # pytest would collect its every line
    torch._dynamo.reset()
    row = compiling.measure("small", sd1_unet())
    assert (row.graphs, row.compilations) == ((1, 1), 2)
    assert row.operations[0] < row.operations[1]
    output.write_json([asdict(row)], tmp_path / "compile.json")
    assert compiling.read(tmp_path / "compile.json") == [row]
    assert compiling.cells([row])[1][0][2:] == ["1 / 1", "{} / {}".format(*row.operations), "2"]
