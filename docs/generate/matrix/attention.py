"""Attention kernels and memory options."""

from __future__ import annotations

from docs.generate.compatibility import Row, Table
from docs.generate.matrix.cells import beside, code, none, on, source
from docs.generate.matrix.hosts import A6, A1111, CLASSIC, FAMILY, FORGE, OLDER, REFORGE

# Shared by several cells

NO_SUCH_OPTION = none(
    "The host does not read the option: Forge and reForge have it commented out (modules/shared_items.py:19, "
    "modules/shared_options.py:281), Classic offers 'Automatic' alone (modules/shared_options.py:243)."
)
ITS_OWN_MEMORY = none(
    "The host has no use for the flag (modules_forge/initialization.py) and moves models by itself: every live run was "
    "one with its memory management."
)
OWN_LENGTH = "keys and values are reshaped by their own length"
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
            "works; the model is compiled anew for each image with ToDo",
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
