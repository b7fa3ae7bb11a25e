"""Other extensions: A1111's, and those built into the Forge family."""

from __future__ import annotations

from docs.generate.compatibility import Cell, Row, Table
from docs.generate.matrix.cells import MERGES, TILES, TOGETHER, beside, none, on, source
from docs.generate.matrix.hosts import A6, A8, A1111, CLASSIC, ERSATZ, FAMILY, FORGE, NEO, OLDER, REFORGE, REFORGE4

EXTENSIONS = """
Extensions of A1111 were tried at these commits: sd-webui-controlnet 56cec5b, multidiffusion-upscaler-for-automatic1111
22798f6, sd-webui-regional-prompter be62345, sd-webui-animatediff a88e889, sd-webui-deepcache-standalone 08bf052,
sd-webui-kohya-hiresfix 05af987, sd-webui-freeu 7568492, sd_webui_SAG 83d66a6, sd-webui-incantations 980d638,
sd-dynamic-thresholding 73e4e04, adetailer 36189cb, a1111-sd-webui-lycoris 47ddd4a. On the Forge family, the built-in
versions were tried.
"""


# Shared by several cells

SAME_AS_1_10 = source(
    "Tried live with 1.10.1. modules/sd_hijack_optimizations.py, where all of A1111's attention functions are, differs "
    "from 1.6.0 to 1.10.1 by a reshape in xformers' alone, and the neighbour brings its own code."
)
NO_SUCH_SCRIPT = none("Not built in, and A1111's replaces parts of the ldm package, which this host does not run.")
NO_HYPERNETWORKS = none(
    "The host never applies hypernetworks: the code that would is commented out "
    "(modules/sd_hijack_optimizations.py:186) or removed."
)
SAME_HYPERTILE = source(
    "extensions-builtin/hypertile/hypertile.py, which does the tiling, is the same file in 1.8.0, 1.9.4 and 1.10.1; "
    "tried with the later two. The API of 1.8.0 does not list its options, so that the tests pass it by."
)


def extension(
    case: str, result: str, *names: str, tests: tuple[str, ...] = (), cells: dict[str, Cell] | None = None
) -> Row:
    """A row for an extension of A1111 that is built into the Forge family, or not available there."""
    by_host = {**on(SAME_AS_1_10, *OLDER), **on(NO_SUCH_SCRIPT, *FAMILY), **(cells or {})}
    return Row(case, result, (*beside(*names), *tests), by_host)


NEIGHBOURS = Table(
    "Neighbours",
    (
        Row(
            "HyperTile",
            TILES,
            (*beside("HyperTile"), "test_neighbours.py::test_hypertile*"),
            {**on(NO_SUCH_SCRIPT, FORGE, NEO, ERSATZ, CLASSIC), A8: SAME_HYPERTILE, A6: none("It came with 1.7.")},
        ),
        Row(
            "HyperTile in the hires pass",
            TILES,
            beside("HyperTile (hires only)", "HyperTile (hires fix)"),
            {**on(NO_SUCH_SCRIPT, FORGE, NEO, ERSATZ, CLASSIC), A8: SAME_HYPERTILE, A6: none("It came with 1.7.")},
        ),
        Row(
            "token merging",
            f"{MERGES}. The Forge family merges only queries, and both act",
            (*beside("token merging*"), "test_neighbours.py::test_token_merging*"),
        ),
        Row("soft inpainting", TOGETHER, beside("soft inpainting"), {A6: none("It came with 1.8.")}),
        Row("LoRA", TOGETHER, beside("LoRA", "LoRA in the hires pass")),
        Row(
            "LoRA, applied on the fly",
            TOGETHER,
            beside("LoRA, applied on the fly"),
            {
                CLASSIC: none("The host has no such option."),
                **on(
                    source(
                        "modules_forge/main_entry.py: 'Automatic (fp16 LoRA)', as on Forge: each layer adds the LoRA "
                        "within its own forward (backend/operations.py), after the hooks."
                    ),
                    NEO,
                    ERSATZ,
                ),
            },
        ),
        Row("LyCORIS (LoHa, LoKr)", TOGETHER, beside("LyCORIS LoHa", "LyCORIS LoKr")),
        Row(
            "hypernetworks",
            TOGETHER,
            beside("hypernetwork"),
            on(NO_HYPERNETWORKS, *FAMILY),
        ),
        extension(
            "ControlNet: residuals",
            "both act; its encoder is downsampled, too, unless *ControlNet too* is off",
            *("ControlNet (residual)*", "ControlNet (two units)", "ControlNet (hires fix)"),
        ),
        extension("ControlNet: T2I adapter", TOGETHER, "ControlNet (T2I adapter)"),
        extension(
            "ControlNet: LLLite",
            "both act; blocks whose projections it replaces (A1111) are left whole, and the log says so",
            "ControlNet (LLLite)",
        ),
        extension(
            "ControlNet: control-LoRA",
            TOGETHER,
            "ControlNet (control-LoRA)",
            cells={
                **on(
                    none(
                        "The extension takes control-LoRAs of SDXL alone: with SD1.5's it fails with and without ToDo "
                        "(sd-webui-controlnet, scripts/cldm.py:382)."
                    ),
                    *A1111,
                ),
            },
        ),
        extension(
            "ControlNet: reference_only, reference_adain, reference_adain+attn",
            "the reference keeps its share: each grid of its bank is downsampled",
            "ControlNet reference*",
        ),
        extension(
            "StyleAlign",
            "the grid of each image is downsampled",
            "StyleAlign*",
            tests=("test_extensions.py::test_style_align*",),
        ),
        extension("MultiDiffusion, Mixture of Diffusers", TOGETHER, "MultiDiffusion", "Mixture of Diffusers"),
        extension(
            "ControlNet in tiles",
            TOGETHER,
            "ControlNet in tiles*",
            cells=on(none("It fails in the host with and without ToDo (tiled_diffusion.py:360)."), REFORGE, REFORGE4),
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
            *("Latent Modifier", "Mahiro CFG", "MaHiRo", "APG", "guidance limiter", "RescaleCFG"),
            cells=on(none("The Forge family's own."), *A1111),
        ),
        extension(
            "First Block Cache, TeaCache",
            f"{TOGETHER} in the steps that are computed",
            *("First Block Cache", "TeaCache"),
            cells=on(none("ersatzForge's own."), *A1111, *FAMILY),
        ),
        extension(
            "epsilon scaling, Skip Early CFG, NGMS, Colour of Noise",
            TOGETHER,
            *("epsilon scaling", "Skip Early CFG", "NGMS", "Colour of Noise"),
            cells=on(none("Of Forge Neo or ersatzForge."), *A1111, *FAMILY),
        ),
        extension(
            "ADetailer",
            "ToDo is on in its inner images if its list of scripts names `todo_script`",
            "ADetailer",
            tests=("test_extensions.py::test_adetailer*",),
        ),
        extension(
            "a1111-sd-webui-lycoris",
            "it changes no image, since the WebUI has had LyCORIS built in since 1.5; ToDo acts",
            tests=("test_neighbours.py::*(a1111-sd-webui-lycoris)]",),
        ),
    ),
    text=EXTENSIONS,
)
