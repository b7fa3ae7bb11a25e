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
        Row(
            "its place, search words and inputs",
            "beside the core's own patches of a UNet; the knobs with their labels, bounds and help, the expert knobs "
            "as advanced inputs",
            _node("the_node_has", "its_defaults", "it_is_found", "the_mode"),
        ),
        Row("a ComfyUI without `comfy_api`", "the same node by the former interface", _node("the_older_node")),
        Row(
            "the example workflow, in LiteGraph and in Nodes 2.0",
            "no nodes overlap, advanced inputs shown or not",
            ("test_page.py::test_no_nodes*", "test_page.py::test_the_example*"),
        ),
        Row("a run", "one line in the log says what was downsampled, or why nothing was", _node("it_says")),
        Row(
            "a node that runs a sampler for each tile of an image, such as Ultimate SD Upscale 34a3c2c",
            f"{TOGETHER}; one line for all tiles",
            (*_node("the_tiles", "of_tiles"), *_other("ultimate")),
        ),
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
        Row(
            "a wrong value",
            "refused before the run, in one error with the knob's label; one that comes through a link is told in the "
            "log, and the image made dense",
            (*_node("a_wrong"), "test_page.py::test_a_wrong*"),
        ),
        Row("LoRA, ControlNet with its encoder, a LoRA of one conditioning", TOGETHER,
            _other("beside_what", "the_controlnets", "a_lora")),
        Row("custom samplers and guiders", "works; of a guider with two models, the first one, and the log says so",
            _other("a_custom", "the_second_model", "a_guider")),
        Row("FreeU V2, DeepShrink, PAG, SAG, NAG, differential diffusion, rescaled CFG, v-prediction", TOGETHER,
            _beside("FreeU V2", "DeepShrink", "perturbed attention guidance", "self-attention guidance", "NAG",
                    "differential diffusion", "rescaled CFG", "v-prediction", "attention multiply")),
        Row("token merging", f"{TOGETHER}: it merges queries alone", _beside("token merging")),
        Row("EasyCache, LazyCache", f"{TOGETHER} in the steps that are computed", _beside("EasyCache", "LazyCache")),
        Row(
            "Spectrum, which forecasts steps (ComfyUI-Spectrum-sdxl 0d9e4ca, ComfyUI-Spectrum-SDXL-Proper 57f2473)",
            f"{TOGETHER} in the steps that are computed",
            _other("beside_a_forecast"),
        ),
        Row("Block Sparse Attention", "these UNets stay dense with it, so that ToDo acts alone", cells={"*": source(
            "It came after 0.33, for transformers: comfy_extras/nodes_sparse_attention.py leaves dense what has heads "
            "of other than 128 channels (SD1 has 40, 80 and 160, SD2 and SDXL 64) or fewer keys than queries.")}),
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
        Row("several GPUs in one run (*MultiGPU CFG Split*), here the CPU as two of them",
            "each one's share is downsampled, ControlNets too", _other("several_gpus")),
    ),
    hosts=(COMFY,),
)  # fmt: skip
