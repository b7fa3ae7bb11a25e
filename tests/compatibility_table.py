"""The rows of docs/compatibility.md. What was run live is in the records; here stands what the records cannot tell."""

from __future__ import annotations

from tests.compatibility import Cell, Host, Row, Table

A1111 = A10, A9, A8, A6 = tuple(f"a1111-{version}" for version in ("1.10.1", "1.9.4", "1.8.0", "1.6.0"))
OLDER = (A9, A8, A6)
FAMILY = FORGE, REFORGE, CLASSIC = "forge", "reforge", "classic"
DIFFUSERS = "diffusers"

HOSTS = (
    Host("A1111 1.10.1", A10, "82a973c"),
    Host("A1111 1.9.4", A9, "feee37d"),
    Host("A1111 1.8.0", A8, "bef51ae"),
    Host("A1111 1.6.0", A6, "5ef669d"),
    Host("Forge", FORGE, "dfdcbab"),
    Host("reForge", REFORGE, "3b56b26"),
    Host("Forge Classic", CLASSIC, "1f95d71"),
)

INTRODUCTION = """
# Compatibility

What was tried where, and what came of it. `python -m tests.compatibility` makes this page of the rows in
`tests/compatibility_table.py` and the records in `tests/host/records`, which the tests against a running WebUI wrote; a
test keeps it so.

| a cell says | which means |
|---|---|
| live | a test passed in the real host. Beside a neighbour that is: the picture equals one made with the neighbour and an independent second downsampling, and differs from the neighbour's alone unless ToDo steps aside; afterwards the neighbour's picture and the dense one have their bits again, and no hook is left |
| code | the real code, in a test without a WebUI |
| source | read in the source, at the place that the note names |
| none | there is no such thing on this host; the note says why |

All was run on a CPU with small checkpoints of random weights, which take the same way through a host as large ones.
"""  # noqa: E501

EXTENSIONS = """
Extensions of A1111 were tried at these commits: sd-webui-controlnet 56cec5b, multidiffusion-upscaler-for-automatic1111
22798f6, sd-webui-regional-prompter be62345, sd-webui-animatediff a88e889, sd-webui-deepcache-standalone 08bf052,
sd-webui-kohya-hiresfix 05af987, sd-webui-freeu 7568492, sd_webui_SAG 83d66a6, sd-webui-incantations 980d638,
sd-dynamic-thresholding 73e4e04, adetailer 36189cb, a1111-sd-webui-lycoris 47ddd4a. On the Forge family a neighbour is
the one that the host has built in.
"""


def code(note: str) -> Cell:
    return Cell("code", note)


def source(note: str) -> Cell:
    return Cell("source", note)


def none(note: str) -> Cell:
    return Cell("none", note)


def on(found: Cell, *records: str) -> dict[str, Cell]:
    """The same cell for several hosts."""
    return dict.fromkeys(records, found)


def tried(test: str) -> dict[str, Cell]:
    """A case of the library's, with the test that holds it."""
    return on(code(f"tests/unit/{test}"), DIFFUSERS)


def beside(*names: str) -> tuple[str, ...]:
    """Tests of neighbours by the names that they have in tests/host/neighbours, whoever brings them."""
    return tuple(f"test_neighbours.py::test_beside[{name} (*)]" for name in names)


# Reasons that several cells have in common

SAME_AS_1_10 = source(
    "Tried live with 1.10.1. modules/sd_hijack_optimizations.py, where all of A1111's attention functions are, differs "
    "from 1.6.0 to 1.10.1 by a reshape in xformers' alone, and the neighbour brings its own code."
)
NO_SUCH_SCRIPT = none("Not built in, and A1111's replaces parts of the ldm package, which this host does not run.")
NO_SUCH_OPTION = none(
    "The host does not read the option: Forge and reForge have it commented out (modules/shared_items.py:19, "
    "modules/shared_options.py:281), Classic offers 'Automatic' alone (modules/shared_options.py:243)."
)
ITS_OWN_MEMORY = none(
    "The host has no use for the flag (modules_forge/initialization.py) and moves models by itself: every live run was "
    "one with its memory management."
)
NO_HYPERNETWORKS = none(
    "The host loads hypernetworks and never applies them: the code that would is commented out "
    "(modules/sd_hijack_optimizations.py:186)."
)
SAME_HYPERTILE = source(
    "extensions-builtin/hypertile/hypertile.py, which does the tiling, is the same file in 1.8.0, 1.9.4 and 1.10.1; "
    "tried with the later two. The API of 1.8.0 does not list its options, so that the tests pass it by."
)
OWN_LENGTH = "keys and values are reshaped by their own length"
SAGE = "which SageAttention takes (`kv_len`, sageattention/core.py:95-107 at d1a57a5)"


def extension(
    case: str, result: str, *names: str, tests: tuple[str, ...] = (), cells: dict[str, Cell] | None = None
) -> Row:
    """A neighbour that is an extension on A1111, and built in or not there on the Forge family."""
    by_host = {**on(SAME_AS_1_10, *OLDER), **on(NO_SUCH_SCRIPT, *FAMILY), **(cells or {})}
    return Row(case, result, (*beside(*names), *tests), by_host)


TOGETHER = "both act"
PARTLY = "blocks that it {} are left whole, the others downsampled; the log says so"
TILES, MERGES = PARTLY.format("tiles"), PARTLY.format("merges")
NO_EFFECT = "'no effect on this model', once; the picture as without"
IN_USE = "the model in use has the patch"

THE_EXTENSION = Table(
    "The extension itself",
    (
        Row("off", "the bits of the host without the extension", ("test_generation.py::test_off_*",)),
        Row("API, picture parameters, X/Y/Z plot", "works", ("test_api.py::*",)),
        Row(
            "page: live line, generation, paste, *Send to*",
            "works",
            ("test_page.py::test_live*", "test_page.py::test_generation*", "test_page.py::test_paste*"),
        ),
        Row("page: *Measure on this GPU*", "works, and waits its turn", ("test_page.py::test_measur*",)),
        Row("*Compare with dense*", "works", ("test_compare.py::*",)),
        Row(
            "step window, samplers of two calls a step, hires fix, img2img, batches, odd sizes",
            "works",
            tuple(
                f"test_generation.py::test_{name}*"
                for name in (
                    "hires",
                    "second",
                    "img2img",
                    "batch",
                    "odd",
                    "end_of",
                    "auto",
                    "positional",
                    "ratios",
                    "cond",
                )
            )
            + beside("batches"),
        ),
        Row("no effect, because of size, pass or window", "said, once", ("test_generation.py::test_no_effect*",)),
        Row(
            "a generation that is interrupted, or fails",
            "nothing is left on the model",
            ("test_generation.py::test_interrupt*", "test_generation.py::test_failure*"),
        ),
        Row(
            "a picture within a picture",
            "the inner one is as its script asks, the outer goes on",
            ("test_generation.py::test_generation_within*",),
        ),
    ),
)

MODELS = Table(
    "Models",
    (
        Row("SD1", "works", ("test_generation.py::test_on_changes*",)),
        Row("SD2, v-prediction", "works", ("test_models.py::*[SD2*",)),
        Row("SDXL", "acts from its finest level on, half the latent", ("test_models.py::test_sdxl_acts*",)),
        Row("SDXL with its refiner", "acts on both", ("test_models.py::test_sdxl_refiner*",)),
        Row("inpainting UNet", "works", ("test_models.py::*[inpainting*", "test_models.py::*[mask]")),
        Row(
            "instruct-pix2pix UNet",
            "works",
            ("test_models.py::*[pix2pix*",),
            on(
                none(
                    "Fails in the host, ToDo or not: 4 or 9 channels for its 8 (Forge: modules/processing.py:363, "
                    "reForge ldm_patched/modules/model_base.py:191; Classic modules/sd_models_config.py:52)."
                ),
                *FAMILY,
            ),
        ),
        Row("refiner", IN_USE, ("test_models.py::test_refiner",)),
        Row("hires checkpoint", IN_USE, ("test_models.py::test_hires_checkpoint",)),
        Row("the request's own checkpoint", IN_USE, ("test_models.py::test_checkpoint_of*",)),
        Row(
            "X/Y/Z plot over checkpoints",
            IN_USE,
            beside("X/Y/Z over checkpoints"),
            {
                A6: source(
                    "scripts/xyz_grid.py makes each picture by a generation of its own, as in 1.8.0, where it was "
                    "tried. The API of 1.6.0 cannot tell the plot's arguments (modules/api/models.py:306), so that the "
                    "test passes it by."
                )
            },
        ),
        Row(
            "Flux, SD3 and other transformers",
            NO_EFFECT,
            ("test_models.py::test_a_model_without*",),
            {
                A10: code(
                    "SD3's joint blocks have no `attn1` (modules/models/sd3/mmdit.py:178). A stand-in for such "
                    "a model is in tests/webui/test_lifecycle.py::test_a_model_without_self_attention_is_told_once"
                ),
                **on(none("The host loads no such model."), *OLDER, CLASSIC),
                REFORGE: source(
                    "ldm_patched/ldm/flux/model.py has no `transformer_blocks`, so that nothing is found, as on Forge."
                ),
            },
        ),
        Row(
            "a UNet of another engine, as TensorRT's",
            NO_EFFECT,
            ("test_extensions.py::test_a_unet_of*",),
            {
                **on(source("modules/sd_unet.py:88 dispatches as in 1.10.1, where it was tried."), A9, A8),
                A6: source("modules/sd_unet.py: `UNetModel_forward` hands the call to the engine as in 1.10.1."),
                **on(
                    none(
                        "Nothing puts `create_unet_forward`, which would ask for an engine, on the host's UNet "
                        "(modules/sd_unet.py, modules/sd_hijack.py)."
                    ),
                    *FAMILY,
                ),
            },
        ),
    ),
)

ATTENTION = Table(
    "Attention and memory",
    (
        *(
            Row(
                name,
                "works",
                (f"test_neighbours.py::test_every_attention_optimisation[{name}]",),
                on(NO_SUCH_OPTION, *FAMILY),
            )
            for name in ("sdp", "sdp-no-mem", "sub-quadratic", "V1", "InvokeAI", "Doggettx", "None")
        ),
        Row(
            "xformers",
            "works",
            (),
            {
                **on(source(f"modules/sd_hijack_optimizations.py:478-504 of 1.10.1: {OWN_LENGTH}."), *A1111),
                FORGE: source(f"backend/attention.py:280-310: {OWN_LENGTH}."),
                REFORGE: source(f"ldm_patched/ldm/modules/attention.py:413-480: {OWN_LENGTH}."),
                CLASSIC: source(f"ldm_patched/ldm/modules/attention.py:358-391: {OWN_LENGTH}."),
            },
        ),
        Row(
            "SageAttention",
            "works",
            (),
            {
                **on(none("A1111 and Forge offer none."), *A1111, FORGE),
                REFORGE: source(
                    f"ldm_patched/ldm/modules/attention.py:525-560 and :569-626: {OWN_LENGTH}, {SAGE}, as does its "
                    "third version (`KL`, sageattn3/api.py:135-151); where it raises all the same, the host falls back "
                    "to PyTorch's attention."
                ),
                CLASSIC: source(f"ldm_patched/ldm/modules/attention.py:408-438: {OWN_LENGTH}, {SAGE}."),
            },
        ),
        *(
            Row(
                flag,
                "works",
                ("*",),
                {
                    **on(none("A1111 chooses by its option, in the rows above."), *A1111),
                    REFORGE: source(f"ldm_patched/ldm/modules/attention.py:221-411 and :482-523: {OWN_LENGTH}."),
                    CLASSIC: source(f"ldm_patched/ldm/modules/attention.py:141-406: {OWN_LENGTH}."),
                },
                run=flag,
            )
            for flag in ("--attention-split", "--attention-pytorch")
        ),
        Row(
            "fp8 storage, by an option",
            "works",
            ("test_models.py::test_fp8*", *beside("fp8 storage*")),
            {
                A6: none("The option came with 1.8."),
                REFORGE: none("The host does not heed the option; its flag is in the next row."),
                CLASSIC: source(
                    "modules/shared_options.py:252: weights are stored in fewer bits; each layer widens them within "
                    "its own forward, after the hooks, as on reForge in the next row."
                ),
            },
        ),
        Row(
            "--unet-in-fp8-e4m3fn",
            "works",
            ("*",),
            {
                **on(none("A1111 has the option, in the row above."), *A1111),
                FORGE: none("The host has the option, in the row above."),
                CLASSIC: source(
                    "ldm_patched/modules/args_parser.py:53: as on reForge; its ldm_patched is an older version of that."
                ),
            },
            run="--unet-in-fp8-e4m3fn",
        ),
        *(
            Row(
                flag,
                "works",
                ("*",),
                {
                    **on(
                        source(
                            "modules/lowvram.py moves blocks by hooks of its own, as in 1.10.1, where it was tried; it "
                            "touches no attention."
                        ),
                        *OLDER,
                    ),
                    **on(ITS_OWN_MEMORY, *FAMILY),
                },
                run=flag,
            )
            for flag in ("--medvram", "--lowvram")
        ),
        Row("Never OOM", "works", beside("Never OOM"), on(none("A1111 has none."), *A1111)),
        Row(
            "torch.compile",
            "works; the model is compiled anew for each picture with ToDo",
            (),
            {
                **on(none("The host does not offer it."), *A1111, FORGE, CLASSIC),
                REFORGE: code(
                    "--torch-compile puts the compiled module in the UNet's place "
                    "(modules_forge/unet_patcher.py:146-148), as does "
                    "tests/unit/test_compile.py::test_compiled_then_patched"
                ),
            },
        ),
    ),
)

NEIGHBOURS = Table(
    "Neighbours",
    (
        Row(
            "HyperTile",
            TILES,
            (*beside("HyperTile"), "test_neighbours.py::test_hypertile*"),
            {**on(NO_SUCH_SCRIPT, FORGE, CLASSIC), A8: SAME_HYPERTILE, A6: none("It came with 1.7.")},
        ),
        Row(
            "HyperTile in the hires pass",
            TILES,
            beside("HyperTile (hires only)", "HyperTile (hires fix)"),
            {**on(NO_SUCH_SCRIPT, FORGE, CLASSIC), A8: SAME_HYPERTILE, A6: none("It came with 1.7.")},
        ),
        Row(
            "token merging",
            f"{MERGES}. The Forge family merges queries alone, and both act",
            (*beside("token merging*"), "test_neighbours.py::test_token_merging*"),
        ),
        Row("soft inpainting", TOGETHER, beside("soft inpainting"), {A6: none("It came with 1.8.")}),
        Row("LoRA", TOGETHER, beside("LoRA")),
        Row(
            "LoRA, applied on the fly",
            TOGETHER,
            beside("LoRA, applied on the fly"),
            {CLASSIC: none("The host has no such option.")},
        ),
        Row("LyCORIS (LoHa, LoKr)", TOGETHER, beside("LyCORIS LoHa", "LyCORIS LoKr")),
        Row("hypernetworks", TOGETHER, beside("hypernetwork"), on(NO_HYPERNETWORKS, *FAMILY)),
        extension(
            "ControlNet: residuals",
            "both act; its own encoder is downsampled, too, unless *ControlNet too* is off",
            *("ControlNet (residual)*", "ControlNet (two units)", "ControlNet (hires fix)"),
        ),
        extension("ControlNet: T2I adapter", TOGETHER, "ControlNet (T2I adapter)"),
        extension(
            "ControlNet: LLLite",
            "both act; blocks with projections that it has replaced (A1111) are left whole, and the log says so",
            "ControlNet (LLLite)",
        ),
        extension(
            "ControlNet: control-LoRA",
            TOGETHER,
            "ControlNet (control-LoRA)",
            cells=on(
                none(
                    "The extension takes control-LoRAs of SDXL alone: with SD1.5's it fails, ToDo or not "
                    "(sd-webui-controlnet, scripts/cldm.py:382)."
                ),
                *A1111,
            ),
        ),
        extension(
            "ControlNet: reference_only, reference_adain, reference_adain+attn",
            "the bank keeps its share: each grid in it is downsampled",
            "ControlNet reference*",
        ),
        extension(
            "StyleAlign",
            "the grid of each picture is downsampled",
            "StyleAlign*",
            tests=("test_extensions.py::test_style_align*",),
        ),
        extension("MultiDiffusion, Mixture of Diffusers", TOGETHER, "MultiDiffusion", "Mixture of Diffusers"),
        extension(
            "ControlNet in tiles",
            TOGETHER,
            "ControlNet in tiles*",
            cells={REFORGE: none("It fails in the host, ToDo or not (tiled_diffusion.py:360).")},
        ),
        extension(
            "noise inversion",
            "the inversion is dense, sampling is not",
            "noise inversion*",
            tests=("test_extensions.py::test_noise*",),
        ),
        extension("Tiled VAE", TOGETHER, "Tiled VAE"),
        extension("DemoFusion", TOGETHER, "DemoFusion"),
        extension("Regional Prompter", TOGETHER, "Regional Prompter*"),
        extension("AnimateDiff", TOGETHER, "AnimateDiff*"),
        extension("DeepCache", TOGETHER, "DeepCache*", tests=("test_extensions.py::test_deepcache*",)),
        extension("Kohya HRFix (Deep Shrink)", TOGETHER, "Kohya HRFix*"),
        extension("FreeU", TOGETHER, "FreeU*"),
        extension("SAG", TOGETHER, "SAG"),
        extension("PAG", TOGETHER, "PAG*"),
        extension("SEG, S-CFG, T2I-Zero, CFG scheduler", TOGETHER, "SEG*", "S-CFG", "T2I-Zero", "CFG scheduler"),
        extension("Dynamic Thresholding", TOGETHER, "Dynamic Thresholding"),
        extension(
            "Latent Modifier, Mahiro CFG, APG, RescaleCFG",
            TOGETHER,
            *("Latent Modifier", "Mahiro CFG", "APG", "guidance limiter", "RescaleCFG"),
            cells=on(none("The Forge family's own."), *A1111),
        ),
        extension(
            "ADetailer",
            "its inner picture has ToDo if its list of scripts names `todo_script`",
            "ADetailer",
            tests=("test_extensions.py::test_adetailer*",),
        ),
        extension(
            "a1111-sd-webui-lycoris",
            "it changes no picture beside the LyCORIS that WebUI has built in since 1.5; ToDo acts",
            tests=("test_neighbours.py::*(a1111-sd-webui-lycoris)]",),
        ),
    ),
    text=EXTENSIONS,
)

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
            "a run that is broken off",
            "the patch comes off",
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

TABLES = (THE_EXTENSION, MODELS, ATTENTION, NEIGHBOURS, LIBRARY)
