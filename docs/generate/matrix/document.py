"""The compatibility document: introduction, hosts and tables."""

from __future__ import annotations

from docs.generate.compatibility import document
from docs.generate.matrix.attention import ATTENTION
from docs.generate.matrix.comfyui import COMFY, COMFYUI
from docs.generate.matrix.extension import THE_EXTENSION
from docs.generate.matrix.hosts import HOSTS
from docs.generate.matrix.library import LIBRARY
from docs.generate.matrix.models import MODELS
from docs.generate.matrix.neighbours import NEIGHBOURS

INTRODUCTION = """
# Compatibility

What was tried on which host, and the result. `make docs` writes this page from the rows in `docs/generate/matrix` and
the records in `tests/host/records`, which the tests against a running WebUI or ComfyUI wrote. A test keeps it up to date.

| a cell says | which means |
|---|---|
| live | a test passed in the real host. For a neighbouring extension this means: the image equals one made with the neighbour and an independent implementation of the downsampling. It differs from the neighbour's own image, unless ToDo steps aside. Afterwards the neighbour's image and the dense one are the same as before to the last bit, and no hook is left |
| code | the real code passed a test without a WebUI |
| source | read in the source; the note names the place |
| none | this host has no such thing; the note says why |

Everything ran on a CPU with small checkpoints of random weights. They take the same path through a host as large ones.

For these runs, faults of the hosts themselves were mended, which are there with and without ToDo:

- ersatzForge: in lora_script.py:21 `networks.infotext_pasted` does not exist, so that no LoRA is found; in
  backend/memory_management.py:816 `dtype_size(None)` fails, so that no ControlNet runs on a CPU.
- reForge's gradio4_main: the names in `ControlNetUiGroup.tooltips` are garbled, so that ControlNet is missing;
  external_code.py:311 makes dicts of its images, where arrays are expected; Kohya HRFix asks for
  `model.model.predictor`, which does not exist, and does nothing; modules/sd_models_xl.py:14 fails with SD2; a request
  during the start (modules/initialize_util.py:205) ends the API.
- Forge and reForge: on six CPUs or fewer, soft inpainting finds an empty mask (soft_inpainting.py:380, `n_jobs = -1`).
"""  # noqa: E501

TABLES = (THE_EXTENSION, MODELS, ATTENTION, NEIGHBOURS, COMFYUI, LIBRARY)
EVERYWHERE = (*HOSTS, COMFY)


def generate() -> str:
    """The text of docs/compatibility.md."""
    return document(INTRODUCTION, HOSTS, TABLES, EVERYWHERE)
