"""The hosts, and the stems of their records' names."""

from __future__ import annotations

from docs.generate.compatibility import Host

A1111 = A10, A9, A8, A6 = tuple(f"a1111-{version}" for version in ("1.10.1", "1.9.4", "1.8.0", "1.6.0"))
OLDER = (A9, A8, A6)
FORGE, NEO, ERSATZ, REFORGE, REFORGE4, CLASSIC = "forge", "neo", "ersatz", "reforge", "reforge-gradio4", "classic"
FAMILY = (FORGE, NEO, ERSATZ, REFORGE, REFORGE4, CLASSIC)
DIFFUSERS = "diffusers"

HOSTS = (
    Host("A1111 1.10.1", A10, "82a973c"),
    Host("A1111 1.9.4", A9, "feee37d"),
    Host("A1111 1.8.0", A8, "bef51ae"),
    Host("A1111 1.6.0", A6, "5ef669d"),
    Host("Forge", FORGE, "dfdcbab"),
    Host("Forge Neo", NEO, "5692d2d"),
    Host("ersatzForge", ERSATZ, "fca12a2"),
    Host("reForge", REFORGE, "3b56b26"),
    Host("reForge gradio4_main", REFORGE4, "fffe742"),
    Host("Forge Classic", CLASSIC, "1f95d71"),
)
