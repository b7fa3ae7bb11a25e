"""The tables of the ComfyUI node."""

from __future__ import annotations

from docs.generate.compatibility import Table
from docs.generate.matrix.cells import COMPILES, COMPUTED, NO_EFFECT, TILES, TOGETHER, code, row, source
from docs.generate.matrix.hosts import COMFYUI


def _beside(*names: str) -> tuple[str, ...]:
    return tuple(f"neighbours::beside[{name}-*]" for name in names)


NODE = Table("ToDo's own features, in ComfyUI", (COMFYUI,), (
    row("without the node", "the same bits as before", ("node::without*", "node::images_are*")),
    row("samplers with one and two calls a step, odd sizes, batches", "the image of an independent reference",
        ("node::an_image_equals*", "node::an_odd*", "node::the_phase*")),
    row("its place, search words and inputs", "beside the core's own patches of a UNet; the knobs with their labels, "
        "bounds and help, the expert knobs as advanced inputs",
        ("node::the_node_has*", "node::its_defaults*", "node::it_is_found*", "node::the_mode*")),
    row("a ComfyUI without `comfy_api`", "the same node by the older interface", ("node::the_older_node*",)),
    row("the example workflow, in LiteGraph and in Nodes 2.0", "no nodes overlap, with and without advanced inputs",
        ("page::no_nodes*", "page::the_example*")),
    row("a run", "one line in the log says what was downsampled, or why nothing was", ("node::it_says*",)),
    row("work that the GPU still has to do", "ToDo does not wait for it: it reads no value of a tensor",
        ("node::it_never_waits*",)),
    row("a sampler that begins or ends in mid-schedule, image to image", "the step window counts its own steps",
        ("node::the_window*", "node::image_to_image*")),
    row("several samplers, several nodes in a row, two models",
        "each sampler has its own settings; of nodes in a row the last one counts",
        ("node::two_samplers*", "node::a_second*", "node::the_last*", "neighbours::two_models*")),
    row("an interrupt, an error", "nothing is left on the model", ("node::nothing_is_left*",)),
    row("a wrong value", "refused before the run, in one error with the knob's label. If it comes through a link, the "
        "log says so, and the image is made dense", ("node::a_wrong*", "page::a_wrong*")),
), own=True)  # fmt: skip

OTHERS = Table("Models and other nodes, in ComfyUI", (COMFYUI,), (
    row("SD 1.x", "works", ("node::an_image_equals*",)),
    row("SDXL", "works", ("node::sdxl*",)),
    row("v-prediction, rescaled CFG", TOGETHER, _beside("v-prediction", "rescaled CFG")),
    row("Flux, SD3 and other transformers", NO_EFFECT, ("neighbours::a_model*",)),
    row("torch.compile", COMPILES, ("neighbours::a_compiled*",)),
    row("low memory: offloading", "works", (), code(
        "tests/unit/test_neighbours.py::test_layerwise_casting_does_not_prevent_downsampling: weights are cast at each "
        "call. On a CPU ComfyUI does not offload.")),
    row("several GPUs in one run (*MultiGPU CFG Split*)", "ToDo acts on each one's share, in ControlNets, too. The CPU "
        "stood for two GPUs", ("neighbours::several_gpus*",)),
    row("HyperTile", TILES, ("neighbours::what_hypertile*",)),
    row("token merging", f"{TOGETHER}: it merges queries alone", _beside("token merging")),
    row("LoRA", TOGETHER, ("neighbours::beside_what*", "neighbours::a_lora*")),
    row("ControlNet", TOGETHER, ("neighbours::beside_what*", "neighbours::the_controlnets*")),
    row("Kohya HRFix (Deep Shrink)", TOGETHER, _beside("DeepShrink")),
    row("FreeU", TOGETHER, _beside("FreeU V2")),
    row("SAG", TOGETHER, _beside("self-attention guidance")),
    row("PAG", TOGETHER, _beside("perturbed attention guidance")),
    row("NAG, differential diffusion, attention multiply", TOGETHER,
        _beside("NAG", "differential diffusion", "attention multiply")),
    row("IP-Adapter", TOGETHER, (), source(
        "It patches cross-attention (attn2) alone. ComfyUI's core has no such node.")),
    row("custom samplers and guiders", "works; of a guider's two models ToDo acts on the first, and the log says so",
        ("neighbours::a_custom*", "neighbours::the_second_model*", "neighbours::a_guider*")),
    row("Ultimate SD Upscale and other nodes that sample tile by tile", f"{TOGETHER}; the log has one line for "
        "all tiles", ("node::the_tiles*", "node::of_tiles*", "neighbours::ultimate*")),
    row("EasyCache, LazyCache", COMPUTED, _beside("EasyCache", "LazyCache")),
    row("Spectrum, which forecasts steps", COMPUTED, ("neighbours::beside_a_forecast*",)),
    row("Block Sparse Attention", "ToDo acts alone: it is for transformers and leaves these UNets dense", (), source(
        "It came after 0.33. comfy_extras/nodes_sparse_attention.py leaves dense what has heads of other than 128 "
        "channels (SD1 has 40, 80 and 160, SD2 and SDXL 64) or fewer keys than queries.")),
), """
Nodes that are not part of ComfyUI were tried at these commits: ComfyUI_UltimateSDUpscale 34a3c2c, ComfyUI-Spectrum-sdxl
0d9e4ca, ComfyUI-Spectrum-SDXL-Proper 57f2473.
""")  # fmt: skip
