"""The compatibility document: its texts, hosts and tables."""

from __future__ import annotations

from docs.generate import compatibility
from docs.generate.matrix.comfyui import NODE, OTHERS
from docs.generate.matrix.hosts import COMFYUI, WEBUIS
from docs.generate.matrix.library import LIBRARY
from docs.generate.matrix.webui import ATTENTION, MODELS, NEIGHBOURS, OWN

TEXT = """
# Compatibility

Does ToDo work in your WebUI or ComfyUI (the *host*), and beside your other extensions? Look up your host in the first
table and your model, setting or extension in the second. Hosts that are not listed were not tried.

The tests ran in the real hosts, on a CPU, with small checkpoints of random weights. Such checkpoints take the same path
through a host as large ones. [How it was tested](#how-it-was-tested) and all that follows is for those who maintain
ToDo or want to see what a claim rests on.

## Your host

{hosts}
From Python, ToDo was tested with these versions of [torch and diffusers](#python-and-torch).

## Your model, setting or extension

| in a host's column | means |
|---|---|
| tested | every test of it passed in the running host |
| in part | a part of it passed in the running host; the rest is only likely, or was not run |
| likely | not tested in the running host. The host's code was read, or ToDo was tested without the host |
| – | not tried: the host does not have it, fails at it without ToDo, too, or it was not installed there |

A *block* is a part of the model with attention of its own, on which ToDo can act. *A1111* is the newest version in the
table above, *reForge* the main branch. The tables further below have the older versions and the other branch.

{asked}
## How it was tested

`make docs` writes this page from the rows in `docs/generate/matrix` and the records in `tests/host/records`, which the
tests against a running WebUI or ComfyUI write. A test keeps the page up to date.

| a cell says | which means |
|---|---|
| live | each of its tests passed in the real host |
| 3 of 5 | so many of its tests passed. The note says why the others were not run |
| code | a test without the host passed. The note names the test |
| source | the host's code was read. The note names the place |
| – | the host has no such thing, or fails at it without ToDo, too. Where there is no note, the record says why |

A test that was skipped because the host lacks what it tests (a script, an option, a sampler) does not count for that
host; a test that was skipped for any other reason (no such checkpoint, a variable that was not set) counts as not run.

For another extension the tests compare bits. With ToDo and the extension, the image equals the one that the extension
makes with an independent implementation of the downsampling. It differs from the extension's image without ToDo, unless
ToDo steps aside. Afterwards the extension's image, and the one with neither, are as before, and no hook is left.

These faults of the hosts were mended for the runs. They are there with and without ToDo:

- ersatzForge: in lora_script.py:21 `networks.infotext_pasted` does not exist, so that no LoRA is found; in
  backend/memory_management.py:816 `dtype_size(None)` fails, so that no ControlNet runs on a CPU.
- reForge's gradio4_main: the names in `ControlNetUiGroup.tooltips` are garbled, so that ControlNet is missing;
  external_code.py:311 makes dicts of its images, where arrays are expected; Kohya HRFix asks for
  `model.model.predictor`, which does not exist, and does nothing; modules/sd_models_xl.py:14 fails with SD2; a request
  during the start (modules/initialize_util.py:205) ends the API.
- Forge and reForge: on six CPUs or fewer, soft inpainting finds an empty mask (soft_inpainting.py:380, `n_jobs = -1`).

## Test runs

{runs}
## Python and torch

`make matrix` runs the tests that need no host, with the oldest torch that ToDo supports and the newest of the day.

{versions}
{tables}
"""
TABLES = (OWN, MODELS, ATTENTION, NEIGHBOURS, NODE, OTHERS, LIBRARY)
HOSTS = (*WEBUIS, COMFYUI)


def generate() -> str:
    """The text of docs/compatibility.md."""
    return TEXT.lstrip().format(
        hosts=compatibility.host_table(HOSTS, TABLES),
        asked=compatibility.asked_table(HOSTS, TABLES),
        runs=compatibility.run_table(HOSTS),
        versions=compatibility.version_table(),
        tables=compatibility.sections(TABLES),
    )
