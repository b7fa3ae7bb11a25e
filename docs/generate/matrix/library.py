"""The library without a WebUI."""

from __future__ import annotations

from docs.generate.compatibility import Row, Table
from docs.generate.matrix.cells import MERGES, TOGETHER, code, row, source
from docs.generate.matrix.hosts import DIFFUSERS


def _tried(case: str, result: str, test: str) -> Row:
    """A row that a unit test covers."""
    return row(case, result, (), code(f"tests/unit/test_{test}"))


LIBRARY = Table("From Python: diffusers", (DIFFUSERS,), (
    _tried("attention processors: default, SDPA, sliced", "works", "diffusers.py"),
    row("xformers' processor", "works", (), source(
        "diffusers' XFormersAttnProcessor (models/attention_processor.py) takes keys at their own length.")),
    _tried("pipelines of SD and SDXL: text to image, image to image, ControlNet", "works",
           "diffusers_pipelines.py::test_each_pipeline"),
    _tried("a run that fails", "the patch is removed", "diffusers_pipelines.py::test_a_run_that_is_broken_off"),
    _tried("IP-Adapter", TOGETHER, "diffusers_pipelines.py::test_an_ip_adapter"),
    _tried("PAG", TOGETHER, "diffusers_pipelines.py::test_perturbed_attention_guidance"),
    _tried("tomesd", MERGES, "neighbours.py::test_on_diffusers"),
    _tried("fused projections", "refused; if they are fused later, their blocks stay whole and the report counts them",
           "diffusers_pipelines.py::test_fused_projections"),
    _tried("torch.compile, before patching and after", "from torch 2.13 on, a UNet is split into as many graphs as a "
           "dense one; each size is compiled once where ToDo acts and once where it does not", "compile.py"),
    _tried("PixArt, SD3, Flux", "UnsupportedModelError, which names what it looked for",
           "diffusers_pipelines.py::test_diffusion_transformers_are_refused"),
))  # fmt: skip
