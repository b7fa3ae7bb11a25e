"""Attention kernels and memory options."""

from __future__ import annotations

from docs.generate.compatibility import Row, Table
from docs.generate.matrix.cells import beside, code, none, on, source
from docs.generate.matrix.hosts import A6, A1111, CLASSIC, ERSATZ, FAMILY, FORGE, NEO, OLDER, REFORGE, REFORGE4

# Shared by several cells

NO_SUCH_OPTION = none(
    "The host does not read the option: Forge and reForge have it commented out (modules/shared_items.py:19, "
    "modules/shared_options.py:281), Classic and Forge Neo offer 'Automatic' alone (modules/shared_options.py:243 and "
    ":319), ersatzForge does not have it."
)
ITS_OWN_MEMORY = none(
    "The host has no use for the flag (modules_forge/initialization.py) and moves models by itself: every live run was "
    "one with its memory management."
)
LOW_MEMORY = source(
    "backend/args.py:85: the host's own --lowvram loads parts of the model as they are needed "
    "(backend/memory_management.py:348); it touches no attention. There is no --medvram."
)
OWN_LENGTH = "keys and values are reshaped by their own length"
CHOSEN_BY_OPTION = none("A1111 chooses by its option, in the rows above.")
OTHER_ATTENTION = source(f"ldm_patched/ldm/modules/attention.py:221-411 and :482-523: {OWN_LENGTH}.")
OLD_ATTENTION = source(f"ldm_patched/ldm/modules/attention.py:141-406: {OWN_LENGTH}.")
SAGE = "which SageAttention takes (`kv_len`, sageattention/core.py:95-107 at d1a57a5)"


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
                NEO: source(f"backend/attention.py:147-200: {OWN_LENGTH}."),
                ERSATZ: source(f"backend/attention.py:171-209: {OWN_LENGTH}."),
                REFORGE4: source(f"ldm_patched/ldm/modules/attention.py:413-480: {OWN_LENGTH}."),
            },
        ),
        Row(
            "SageAttention",
            "works",
            (),
            {
                **on(none("A1111 and Forge offer none."), *A1111, FORGE),
                **on(
                    source(
                        f"ldm_patched/ldm/modules/attention.py:525-560 and :569-626: {OWN_LENGTH}, {SAGE}, as does its "
                        "third version (`KL`, sageattn3/api.py:135-151); where it raises all the same, the host falls "
                        "back to PyTorch's attention."
                    ),
                    REFORGE,
                    REFORGE4,
                ),
                CLASSIC: source(f"ldm_patched/ldm/modules/attention.py:408-438: {OWN_LENGTH}, {SAGE}."),
                NEO: source(f"backend/attention.py:238-290: {OWN_LENGTH}, {SAGE}."),
                ERSATZ: source(f"backend/attention.py:227-264: {OWN_LENGTH}, {SAGE}."),
            },
        ),
        Row(
            "split attention, by a flag",
            "works",
            ("*",),
            {
                **on(CHOSEN_BY_OPTION, *A1111),
                REFORGE: OTHER_ATTENTION,
                REFORGE4: source(f"ldm_patched/ldm/modules/attention.py:284-411: {OWN_LENGTH}."),
                CLASSIC: OLD_ATTENTION,
                **on(none("The host has no such flag."), NEO, ERSATZ),
            },
            runs=("--attention-split",),
        ),
        Row(
            "the host's attention without a flag",
            "works",
            ("*",),
            {
                NEO: source(f"backend/attention.py:90-144, on a CPU: {OWN_LENGTH}."),
                ERSATZ: source(f"backend/attention.py:101-169: {OWN_LENGTH}."),
                REFORGE4: source(f"ldm_patched/ldm/modules/attention.py:214-282: {OWN_LENGTH}."),
            },
            runs=("",),
        ),
        Row(
            "PyTorch's attention, by a flag",
            "works",
            ("*",),
            {**on(CHOSEN_BY_OPTION, *A1111), REFORGE: OTHER_ATTENTION, CLASSIC: OLD_ATTENTION},
            runs=("--attention-pytorch", "--use-pytorch-cross-attention"),
        ),
        Row(
            "fp8 storage, by an option",
            "works",
            ("test_models.py::test_fp8*", *beside("fp8 storage*")),
            {
                A6: none("The option came with 1.8."),
                **on(none("The host does not heed the option; its flag is in the next row."), REFORGE, REFORGE4),
                **on(
                    source(
                        "modules_forge/main_entry.py: Forge's choices. Weights are stored in fewer bits; each layer "
                        "widens them within its own forward (backend/operations.py), after the hooks, as on Forge."
                    ),
                    NEO,
                    ERSATZ,
                ),
                CLASSIC: source(
                    "modules/shared_options.py:252: weights are stored in fewer bits; each layer widens them within "
                    "its own forward, after the hooks, as on reForge in the next row."
                ),
            },
        ),
        Row(
            "fp8 storage, by a flag",
            "works",
            ("*",),
            {
                **on(none("A1111 has the option, in the row above."), *A1111),
                FORGE: none("The host has the option, in the row above."),
                CLASSIC: source(
                    "ldm_patched/modules/args_parser.py:53: as on reForge; its ldm_patched is an older version of that."
                ),
                REFORGE4: source("ldm_patched/modules/args_parser.py:73: as on the older reForge, where it was tried."),
                **on(source("backend/args.py: the same as the host's option, in the row above."), NEO, ERSATZ),
            },
            runs=("--unet-in-fp8-e4m3fn",),
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
                    NEO: LOW_MEMORY,
                },
                runs=(flag,),
            )
            for flag in ("--medvram", "--lowvram")
        ),
        Row(
            "Never OOM",
            "works",
            beside("Never OOM"),
            {
                **on(none("A1111 has none."), *A1111),
                NEO: source(
                    "modules/initialize_util.py:178-186: a flag, --neveroom, which changes how models are moved and "
                    "how images are decoded; it touches no attention."
                ),
            },
        ),
        Row(
            "torch.compile",
            "works; from torch 2.13 on in as many graphs as without ToDo",
            ("test_compile.py::*",),
            {
                **on(none("The host does not offer it."), *A1111, FORGE, ERSATZ, CLASSIC),
                **on(
                    code(
                        "--torch-compile puts the compiled module in the UNet's place "
                        "(modules_forge/unet_patcher.py:146-148), as does "
                        "tests/unit/test_compile.py::test_compiled_then_patched"
                    ),
                    REFORGE,
                    REFORGE4,
                ),
            },
        ),
    ),
)
