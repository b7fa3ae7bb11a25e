"""The library without a WebUI."""

from __future__ import annotations

from docs.generate.compatibility import Host, Row, Table
from docs.generate.matrix.cells import MERGES, TOGETHER, on, source, tried
from docs.generate.matrix.hosts import DIFFUSERS

LIBRARY = Table(
    "Without a WebUI: diffusers",
    (
        Row("attention processors: default, SDPA, sliced", "works", (), tried("test_diffusers.py")),
        Row(
            "pipelines of SD and SDXL: text to image, image to image, ControlNet",
            "works",
            (),
            tried("test_diffusers_pipelines.py::test_each_pipeline"),
        ),
        Row(
            "a run that an error ends",
            "the patch is removed",
            (),
            tried("test_diffusers_pipelines.py::test_a_run_that_is_broken_off"),
        ),
        Row("IP-Adapter", TOGETHER, (), tried("test_diffusers_pipelines.py::test_an_ip_adapter")),
        Row("PAG", TOGETHER, (), tried("test_diffusers_pipelines.py::test_perturbed_attention_guidance")),
        Row("tomesd", MERGES, (), tried("test_neighbours.py::test_on_diffusers")),
        Row(
            "fused projections",
            "refused, or counted as left whole where they were fused later",
            (),
            tried("test_diffusers_pipelines.py::test_fused_projections"),
        ),
        Row("torch.compile, before patching and after", "works", (), tried("test_compile.py")),
        Row(
            "PixArt, SD3, Flux",
            "UnsupportedModelError, which names what was looked for",
            (),
            tried("test_diffusers_pipelines.py::test_diffusion_transformers_are_refused"),
        ),
        Row(
            "xformers' processor",
            "works",
            (),
            on(
                source("diffusers' XFormersAttnProcessor (models/attention_processor.py): keys at their own length."),
                DIFFUSERS,
            ),
        ),
    ),
    hosts=(Host("diffusers", DIFFUSERS),),
)
