"""The extension's own features."""

from __future__ import annotations

from docs.generate.compatibility import Row, Table
from docs.generate.matrix.cells import beside

_STEPS = ("hires", "second", "img2img", "batch", "odd", "end_of", "auto", "positional", "ratios", "cond")

THE_EXTENSION = Table(
    "The extension itself",
    (
        Row("off", "the same bits as the host without the extension", ("test_generation.py::test_off_*",)),
        Row("API, generation parameters, X/Y/Z plot", "works", ("test_api.py::*",)),
        Row(
            "page: live line, generation, paste, *Send to*, saved defaults",
            "works",
            tuple(f"test_page.py::test_{name}*" for name in ("live", "generation", "paste", "saved")),
        ),
        Row("page: *Measure on this machine*", "works, and waits its turn", ("test_page.py::test_measur*",)),
        Row("*Compare*", "works", ("test_compare.py::*", "test_page.py::test_compare*")),
        Row(
            "step window, samplers with two calls a step, hires. fix, img2img, batches, odd sizes",
            "works",
            (
                *(f"test_generation.py::test_{name}*" for name in _STEPS),
                *beside("batches"),
                "test_neighbours.py::test_all_levels*",
            ),
        ),
        Row("no effect, because of size, pass or window", "reported once", ("test_generation.py::test_no_effect*",)),
        Row(
            "a generation that is interrupted or fails",
            "nothing is left on the model",
            ("test_generation.py::test_interrupt*", "test_generation.py::test_failure*"),
        ),
        Row(
            "a generation within a generation",
            "the inner one does what its script asks, the outer one continues",
            ("test_generation.py::test_generation_within*",),
        ),
    ),
)
