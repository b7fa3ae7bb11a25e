"""The tables of the WebUIs."""

from __future__ import annotations

from docs.generate.compatibility import Cell, Row, Table
from docs.generate.matrix.cells import COMPILES, COMPUTED, MERGES, NO_EFFECT, TILES, TOGETHER, code, none, row, source
from docs.generate.matrix.hosts import A1111, FAMILY, OLDER, REFORGE, WEBUIS

GRID = source("scripts/xyz_grid.py makes each image in a generation of its own, as in 1.8.0, where it was tried. The "
              "API cannot tell the plot's arguments (modules/api/models.py:306).", "a1111-1.6.0")  # fmt: skip
SCRIPTS = code("The live test is newer than the last run of this host. tests/webui/test_compare_scripts.py does the "
               "same with a stand-in.")  # fmt: skip
BATCH = source("modules/img2img.py: such a batch comes from `process_batch`, by which ToDo knows it. The live test is "
               "newer than the last run of this host.")  # fmt: skip
API = ("bad", "off", "numbers", "plan", "schema", "script", "example")
STEPS = ("hires", "second", "img2img", "batch", "odd", "end_of", "auto", "positional", "ratios", "cond")

OWN = Table("ToDo's own features, in a WebUI", WEBUIS, (
    row("off", "the same bits as the host without the extension", ("generation::off_equals*",)),
    row("off: infotext", "nothing of ToDo's", ("generation::off_writes*",)),
    row("API: requests, routes, wrong values", "works", tuple(f"api::{name}*" for name in API)),
    row("API: infotext in a request", "the same settings act again", ("api::infotext*",),
        none("Its API takes no infotext.", "a1111-1.6.0"),
        none("Its API fails at every infotext, with and without ToDo.", "reforge-gradio4")),
    row("X/Y/Z plot", "works", ("api::xyz*",), GRID),
    row("page: live line, generation, paste, *Send to*, saved defaults", "works",
        ("page::live*", "page::generation*", "page::paste*", "page::saved*")),
    row("page: *Measure on this machine*", "works, and waits for its turn", ("page::measur*",)),
    row("*Compare*", "works", ("compare::*", "page::compare_from*")),
    row("*Compare* under the host's own scripts", "each script gets its own images and no others; the log says that "
        "nothing is compared", ("scripts::*",), SCRIPTS),
    row("*Compare* in a batch from a directory", "the files are the same as without it; the page says that nothing is "
        "compared", ("page::compare_in_a_batch*",), BATCH),
    row("step window, samplers with two calls a step, hires. fix, img2img, batches, odd sizes", "works",
        (*(f"generation::{name}*" for name in STEPS), "batches", "neighbours::all_levels*")),
    row("no effect, because of the size, the pass or the window", "the log says so, once", ("generation::no_effect*",)),
    row("a generation that is interrupted or fails", "nothing is left on the model",
        ("generation::interrupt*", "generation::failure*")),
    row("a generation within a generation", "each does what its own request asks", ("generation::generation_within*",)),
), own=True)  # fmt: skip

NO_MODEL = "The host knows no such model (huggingface_guess/model_list.py)."

MODELS = Table("Models", WEBUIS, (
    row("SD 1.x", "works", ("generation::on_changes*", "models::the_defaults*[-512]")),
    row("SD 2.x", "works", ("models::*[SD2*",), none(NO_MODEL, "neo")),
    row("SDXL", "works", ("models::sdxl_acts*", "models::the_defaults*SDXL*")),
    row("SDXL: with its refiner", "ToDo acts on both", ("models::sdxl_refiner*",),
        none("A refiner must have the model's layout: with SDXL's own the host fails, with and without ToDo.", "neo")),
    row("inpainting models", "works", ("models::*[inpainting*", "models::*[mask]")),
    row("instruct-pix2pix models", "works", ("models::*[pix2pix*",), none(NO_MODEL, "neo"),
        none("Fails in the host with and without ToDo: 4 or 9 channels for its 8 (modules/processing.py:363 of Forge, "
             ":320 of ersatzForge; reForge ldm_patched/modules/model_base.py:191; Classic "
             "modules/sd_models_config.py:52).", FAMILY)),
    row("refiner, hires. checkpoint, a request's own checkpoint", "ToDo acts on the checkpoint in use",
        ("models::refiner", "models::hires_checkpoint", "models::checkpoint_of*")),
    row("X/Y/Z plot over checkpoints", "ToDo acts on the checkpoint in use", ("X/Y/Z over checkpoints",), GRID),
    row("Flux, SD3 and other transformers", NO_EFFECT, ("models::a_model_without*",),
        code("SD3's joint blocks have no `attn1` (modules/models/sd3/mmdit.py:178). A stand-in for such a model is in "
             "tests/webui/test_lifecycle.py::test_a_model_without_self_attention_is_told_once", "a1111-1.10.1"),
        none("The host loads no such model.", f"{OLDER} classic"),
        source("backend/nn/flux.py, on reForge ldm_patched/ldm/flux/model.py, has no `transformer_blocks`, so that "
               "nothing is found, as on Forge.", f"ersatz {REFORGE}")),
    row("TensorRT and other engines for the UNet", NO_EFFECT, ("extensions::a_unet_of*",),
        source("modules/sd_unet.py:88 dispatches as in 1.10.1, where it was tried.", "a1111-1.9.4 a1111-1.8.0"),
        source("modules/sd_unet.py: `UNetModel_forward` hands the call to the engine as in 1.10.1.", "a1111-1.6.0"),
        none("Nothing puts `create_unet_forward`, which would ask for an engine, on the host's UNet "
             "(modules/sd_unet.py and modules/sd_hijack.py, as far as it has them).", FAMILY)),
))  # fmt: skip

SAMPLE = tuple(f"generation::{name}*" for name in ("on_", "odd", "batch", "hires", "img2img"))
BY_OPTION = none("A1111 chooses by its option.", A1111)
LDM, BACKEND = "ldm_patched/ldm/modules/attention.py", "backend/attention.py"
SAGE = ", which SageAttention takes (`kv_len`, sageattention/core.py:95-107 at d1a57a5)"


def reshaped(file: str, place: str, hosts: str, then: str = "") -> Cell:
    return source(f"{file}:{place}: the function reshapes keys and values by their own length{then}.", hosts)


ATTENTION = Table("Attention and memory", WEBUIS, (
    row("A1111's *Cross attention optimization*: sdp, sdp-no-mem, sub-quadratic, V1, InvokeAI, Doggettx, None", "works",
        ("neighbours::every_attention_optimisation*",),
        none("The host does not read the option: Forge and reForge have it commented out (modules/shared_items.py:19, "
             "modules/shared_options.py:281), Classic and Forge Neo offer 'Automatic' alone "
             "(modules/shared_options.py:243 and :319), ersatzForge does not have it.", FAMILY)),
    row("the host's attention: without a flag", "works", SAMPLE,
        reshaped(BACKEND, "90-144, on a CPU", "neo"), reshaped(BACKEND, "101-169", "ersatz"),
        reshaped(LDM, "214-282", "reforge-gradio4"), runs=("", "own pins")),
    row("the host's attention: PyTorch's, by a flag", "works", SAMPLE, BY_OPTION,
        reshaped(LDM, "221-411 and :482-523", "reforge"), reshaped(LDM, "141-406", "classic"),
        runs=("--attention-pytorch", "--use-pytorch-cross-attention")),
    row("the host's attention: split, by a flag", "works", SAMPLE, BY_OPTION,
        reshaped(LDM, "221-411 and :482-523", "reforge"), reshaped(LDM, "284-411", "reforge-gradio4"),
        reshaped(LDM, "141-406", "classic"), none("The host has no such flag.", "neo ersatz"),
        runs=("--attention-split",)),
    row("xformers", "works", (), reshaped("modules/sd_hijack_optimizations.py", "478-504 of 1.10.1", A1111),
        reshaped(BACKEND, "280-310", "forge"), reshaped(BACKEND, "147-200", "neo"),
        reshaped(BACKEND, "171-209", "ersatz"), reshaped(LDM, "413-480", REFORGE), reshaped(LDM, "358-391", "classic")),
    row("SageAttention", "works", (), none("The host does not offer it.", f"{A1111} forge"),
        reshaped(LDM, "525-560 and :569-626", REFORGE, f"{SAGE}. So does its third version (`KL`, "
                 "sageattn3/api.py:135-151). If it raises all the same, the host falls back to PyTorch's attention"),
        reshaped(LDM, "408-438", "classic", SAGE), reshaped(BACKEND, "238-290", "neo", SAGE),
        reshaped(BACKEND, "227-264", "ersatz", SAGE)),
    row("fp8 storage: by an option", "works", ("models::fp8*", "fp8 storage*"),
        source("modules_forge/main_entry.py offers Forge's choices. As on Forge, each layer widens its weights within "
               "its own forward (backend/operations.py), after ToDo's hooks.", "neo ersatz"),
        source("modules/shared_options.py:252: as on reForge with the flag, each layer widens its weights within its "
               "own forward, after ToDo's hooks.", "classic")),
    row("fp8 storage: by a flag", "works", SAMPLE, none("The host has an option for it.", f"{A1111} forge"),
        source("ldm_patched/modules/args_parser.py:73 (:53 in Classic, whose ldm_patched is older): as on reForge's "
               "main branch, where it was tried.", f"{REFORGE} classic"),
        source("backend/args.py: the same as the host's option.", "neo ersatz"), runs=("--unet-in-fp8-e4m3fn",)),
    *(row(f"low memory: {flag}", "works", (*SAMPLE, "models::*"),
          source("modules/lowvram.py moves blocks by hooks of its own, as in 1.10.1, where it was tried. It touches no "
                 "attention.", OLDER),
          source("backend/args.py:85: the host's own --lowvram loads parts of the model as they are needed "
                 "(backend/memory_management.py:348). It touches no attention. There is no --medvram.", "neo"),
          none("The host has no use for the flag (modules_forge/initialization.py) and moves models by itself. Every "
               "live run was one with its memory management.", FAMILY), runs=(flag,))
      for flag in ("--medvram", "--lowvram")),
    row("low memory: Never OOM", "works", ("Never OOM",),
        source("modules/initialize_util.py:178-186: the flag --neveroom changes how models are moved and images are "
               "decoded. It touches no attention.", "neo")),
    row("torch.compile", COMPILES, ("compile::*",),
        code("--torch-compile puts the compiled module in the UNet's place (modules_forge/unet_patcher.py:146-148), as "
             "does tests/unit/test_compile.py::test_compiled_then_patched", REFORGE),
        none("The host does not offer it.")),
))  # fmt: skip

EXTENSIONS = """
Extensions of A1111 were tried at these commits: sd-webui-controlnet 56cec5b, multidiffusion-upscaler-for-automatic1111
22798f6, sd-webui-regional-prompter be62345, sd-webui-animatediff a88e889, sd-webui-deepcache-standalone 08bf052,
sd-webui-kohya-hiresfix 05af987, sd-webui-freeu 7568492, sd_webui_SAG 83d66a6, sd-webui-incantations 980d638,
sd-dynamic-thresholding 73e4e04, adetailer 36189cb, a1111-sd-webui-lycoris 47ddd4a. On the Forge family only
built-in extensions were tried: many of A1111's replace parts of the ldm package, which those hosts do not run.
"""
ON_1_10 = source("Tried live with 1.10.1. modules/sd_hijack_optimizations.py, where all of A1111's attention functions "
                 "are, differs from 1.6.0 to 1.10.1 by a reshape in xformers' alone, and the extension brings its own "
                 "code.", OLDER)  # fmt: skip
TILED = "Tiled Diffusion (MultiDiffusion, Mixture of Diffusers)"
HYPERTILE = source("extensions-builtin/hypertile/hypertile.py, which does the tiling, is the same file in 1.8.0, 1.9.4 "
                   "and 1.10.1. The later two were tried. The API of 1.8.0 does not list its options.",
                   "a1111-1.8.0")  # fmt: skip


def extension(case: str, result: str, *tests: str, cells: tuple[Cell, ...] = ()) -> Row:
    """A row for an extension of A1111, or for one that the Forge family has built in."""
    return row(case, result, tests, *cells, ON_1_10, none("Not built in."))


NEIGHBOURS = Table("Other extensions", WEBUIS, (
    row("HyperTile", TILES, ("HyperTile", "neighbours::hypertile*"), HYPERTILE),
    row("HyperTile: in the hires pass", TILES, ("HyperTile (hires only)", "HyperTile (hires fix)"), HYPERTILE),
    row("token merging", f"on A1111 {MERGES}; elsewhere it merges queries alone, and both act",
        ("token merging*", "neighbours::token_merging*")),
    row("LoRA", TOGETHER, ("LoRA", "LoRA in the hires pass")),
    row("LoRA: applied on the fly", TOGETHER, ("LoRA, applied on the fly",),
        source("modules_forge/main_entry.py: 'Automatic (fp16 LoRA)'. As on Forge, each layer adds the LoRA within its "
               "own forward (backend/operations.py), after ToDo's hooks.", "neo ersatz")),
    row("LyCORIS", TOGETHER, ("LyCORIS LoHa", "LyCORIS LoKr")),
    extension("LyCORIS: the extension a1111-sd-webui-lycoris", "ToDo acts. The extension changes no image, since the "
              "WebUI has had LyCORIS built in since 1.5", "neighbours::*(a1111-sd-webui-lycoris)]"),
    row("hypernetworks", TOGETHER, ("hypernetwork",),
        none("The host never applies hypernetworks: the code that would is commented out "
             "(modules/sd_hijack_optimizations.py:186) or removed.", FAMILY)),
    row("soft inpainting", TOGETHER, ("soft inpainting",)),
    extension("ControlNet", f"{TOGETHER}; ToDo acts in its encoder, too, unless *ControlNet too* is off",
              "ControlNet (residual)*", "ControlNet (two units)", "ControlNet (hires fix)"),
    extension("ControlNet: T2I adapter", TOGETHER, "ControlNet (T2I adapter)"),
    extension("ControlNet: LLLite", f"{TOGETHER}; on A1111 ToDo steps aside in the blocks whose projections it "
              "replaces, and says so in the log", "ControlNet (LLLite)"),
    extension("ControlNet: control-LoRA", TOGETHER, "ControlNet (control-LoRA)", cells=(
        none("The extension takes control-LoRAs of SDXL alone: with SD1.5's it fails with and without ToDo "
             "(sd-webui-controlnet, scripts/cldm.py:382).", A1111),)),
    extension("ControlNet: reference_only, reference_adain, reference_adain+attn", "the reference keeps its share: "
              "ToDo acts on it as on the image", "ControlNet reference*"),
    extension("ControlNet: in tiles", TOGETHER, "ControlNet in tiles*", cells=(
        none("It fails in the host with and without ToDo (tiled_diffusion.py:360).", REFORGE),)),
    extension("StyleAlign", f"{TOGETHER}, ToDo on each image of the batch", "StyleAlign*", "extensions::style_align*"),
    extension(TILED, TOGETHER, "MultiDiffusion", "Mixture of Diffusers"),
    extension(f"{TILED}: noise inversion", "the inversion stays dense; ToDo acts in the sampling",
              "noise inversion*", "extensions::noise*"),
    extension(f"{TILED}: DemoFusion", TOGETHER, "DemoFusion"),
    *(extension(name, TOGETHER, f"{name}*") for name in (
        "Tiled VAE", "Regional Prompter", "AnimateDiff", "FreeU", "SAG", "PAG", "Dynamic Thresholding")),
    extension("DeepCache", TOGETHER, "DeepCache*", "extensions::deepcache*"),
    extension("Kohya HRFix (Deep Shrink)", TOGETHER, "Kohya HRFix*"),
    extension("SEG, S-CFG, T2I-Zero, CFG scheduler", TOGETHER, "SEG*", "S-CFG", "T2I-Zero", "CFG scheduler"),
    extension("ADetailer", "ToDo acts in ADetailer's own images if its list of scripts names `todo_script`",
              "ADetailer", "extensions::adetailer*"),
    row("Latent Modifier, Mahiro CFG, APG, RescaleCFG", TOGETHER,
        ("Latent Modifier", "Mahiro CFG", "MaHiRo", "APG", "guidance limiter", "RescaleCFG")),
    row("First Block Cache, TeaCache", COMPUTED, ("First Block Cache", "TeaCache"), none("ersatzForge's own.")),
    row("epsilon scaling, Skip Early CFG, NGMS, Colour of Noise", TOGETHER,
        ("epsilon scaling", "Skip Early CFG", "NGMS", "Colour of Noise"), none("Of Forge Neo or ersatzForge.")),
), EXTENSIONS)  # fmt: skip
