"""Kinds of models, and switching between models."""

from __future__ import annotations

from docs.generate.compatibility import Row, Table
from docs.generate.matrix.cells import IN_USE, NO_EFFECT, beside, code, none, on, source
from docs.generate.matrix.hosts import A6, A8, A9, A10, CLASSIC, ERSATZ, FAMILY, NEO, OLDER, REFORGE, REFORGE4

MODELS = Table(
    "Models",
    (
        Row("SD1", "works", ("test_generation.py::test_on_changes*", "test_models.py::test_the_defaults*[-512]")),
        Row(
            "SD2, v-prediction",
            "works",
            ("test_models.py::*[SD2*",),
            {NEO: none("Removed from the host: its list of models has no SD2 (huggingface_guess/model_list.py).")},
        ),
        Row(
            "SDXL",
            "acts from its finest level on, half the latent",
            ("test_models.py::test_sdxl_acts*", "test_models.py::test_the_defaults*SDXL*"),
        ),
        Row(
            "SDXL with its refiner",
            "acts on both",
            ("test_models.py::test_sdxl_refiner*",),
            {
                NEO: none(
                    "The host's refiner must have the layout of the model, as in the row *refiner*: with SDXL's own it "
                    "fails with and without ToDo."
                ),
            },
        ),
        Row("inpainting UNet", "works", ("test_models.py::*[inpainting*", "test_models.py::*[mask]")),
        Row(
            "instruct-pix2pix UNet",
            "works",
            ("test_models.py::*[pix2pix*",),
            {
                **on(
                    none(
                        "Fails in the host with and without ToDo: 4 or 9 channels for its 8 (Forge: "
                        "modules/processing.py:363, ersatzForge: :320, reForge ldm_patched/modules/model_base.py:191; "
                        "Classic modules/sd_models_config.py:52)."
                    ),
                    *FAMILY,
                ),
                NEO: none("The host knows no such model (huggingface_guess/model_list.py)."),
            },
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
                    "scripts/xyz_grid.py makes each image in a generation of its own, as in 1.8.0, where it was "
                    "tried. The API of 1.6.0 cannot tell the plot's arguments (modules/api/models.py:306), so that the "
                    "test passes it by."
                ),
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
                ERSATZ: source("backend/nn/flux.py has no `transformer_blocks`, so nothing is found, as on Forge."),
                **on(
                    source(
                        "ldm_patched/ldm/flux/model.py has no `transformer_blocks`, so nothing is found, as on Forge."
                    ),
                    REFORGE,
                    REFORGE4,
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
                        "(modules/sd_unet.py and modules/sd_hijack.py, as far as it has them)."
                    ),
                    *FAMILY,
                ),
            },
        ),
    ),
)
