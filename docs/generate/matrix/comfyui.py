"""The ComfyUI node."""

from __future__ import annotations

from docs.generate.compatibility import Host, Row, Table
from docs.generate.matrix.cells import TOGETHER, code, source

COMFY = Host("ComfyUI 0.33.0", "comfyui-0.33.0", "8622f33")


def _node(*tests: str) -> tuple[str, ...]:
    return tuple(f"test_node.py::test_{test}*" for test in tests)


def _beside(*names: str) -> tuple[str, ...]:
    return tuple(f"test_neighbours.py::test_beside[{name}-*]" for name in names)


def _other(*tests: str) -> tuple[str, ...]:
    return tuple(f"test_neighbours.py::test_{test}*" for test in tests)


COMFYUI = Table(
    "ComfyUI",
    (
        Row("without the node", "the same bits as before", _node("without", "images_are")),
        Row(
            "SD1.5 and SDXL, samplers with one and two calls a step, odd sizes, batches",
            "the image of an independent reference",
            _node("an_image_equals", "sdxl", "an_odd", "the_phase"),
        ),
        Row("its inputs", "the knobs with their labels, bounds and help", _node("the_node_has", "its_defaults")),
        Row("a run", "one line in the log says what was downsampled, or why nothing was", _node("it_says")),
        Row("work that the GPU still has to do", "not waited for: ToDo reads no value of a tensor",
            _node("it_never_waits")),
        Row(
            "a sampler that begins or ends in mid-schedule, image to image",
            "the step window is of the sampler's own run",
            _node("the_window", "image_to_image"),
        ),
        Row(
            "several samplers, several nodes in a row, two models",
            "each sampler has its own settings; of nodes in a row the last one counts",
            (*_node("two_samplers", "a_second", "the_last"), *_other("two_models")),
        ),
        Row("an interrupt, an error", "nothing is left on the model", _node("nothing_is_left")),
        Row("a wrong value", "refused before the run, or told and the image made dense", _node("start", "a_wrong")),
        Row("LoRA, ControlNet with its encoder, a LoRA of one conditioning", TOGETHER,
            _other("beside_what", "the_controlnets", "a_lora")),
        Row("custom samplers and guiders", "works; of a guider with two models, the first one",
            _other("a_custom", "the_second_model")),
        Row("FreeU V2, DeepShrink, PAG, SAG, NAG, differential diffusion, rescaled CFG, v-prediction", TOGETHER,
            _beside("FreeU V2", "DeepShrink", "perturbed attention guidance", "self-attention guidance", "NAG",
                    "differential diffusion", "rescaled CFG", "v-prediction", "attention multiply")),
        Row("token merging", f"{TOGETHER}: it merges queries alone", _beside("token merging")),
        Row("EasyCache, LazyCache", f"{TOGETHER} in the steps that are computed", _beside("EasyCache", "LazyCache")),
        Row("HyperTile", "levels that it tiles are left whole, the others downsampled; the log says so",
            _other("what_hypertile")),
        Row("TorchCompileModel, before ToDo and after", "works; from torch 2.13 on in as many graphs as without ToDo",
            _other("a_compiled")),
        Row("a model with other attention, such as Flux", "'no effect', once, with its kind; the image is the same",
            _other("a_model")),
        Row("IP-Adapter", TOGETHER, cells={"*": source(
            "It patches cross-attention (attn2) alone; the core of ComfyUI has no such node.")}),
        Row("offloading with little memory", "works", cells={"*": code(
            "tests/unit/test_neighbours.py::test_layerwise_casting_does_not_prevent_downsampling: weights are cast at "
            "each call. On a CPU ComfyUI does not offload.")}),
        Row("several GPUs in one run", "the first one's share is downsampled", cells={"*": source(
            "comfy/multigpu.py: each further GPU has a copy of the UNet, which the node does not patch.")}),
    ),
    hosts=(COMFY,),
)  # fmt: skip
