"""The hosts."""

from __future__ import annotations

from docs.generate.compatibility import Host

WEBUIS = (
    Host("A1111 1.10.1", "a1111-1.10.1", "82a973c", "A1111"),
    Host("A1111 1.9.4", "a1111-1.9.4", "feee37d"),
    Host("A1111 1.8.0", "a1111-1.8.0", "bef51ae"),
    Host("A1111 1.6.0", "a1111-1.6.0", "5ef669d"),
    Host("Forge", "forge", "dfdcbab", "Forge"),
    Host("Forge Neo", "neo", "5692d2d", "Forge Neo"),
    Host("ersatzForge", "ersatz", "fca12a2", "ersatzForge"),
    Host("reForge", "reforge", "3b56b26", "reForge"),
    Host("reForge gradio4_main", "reforge-gradio4", "fffe742"),
    Host("Forge Classic", "classic", "1f95d71", "Forge Classic"),
)
COMFYUI = Host("ComfyUI 0.33.0", "comfyui-0.33.0", "8622f33", "ComfyUI")
DIFFUSERS = Host("diffusers", "diffusers")

A1111 = " ".join(host.record for host in WEBUIS[:4])
OLDER = " ".join(host.record for host in WEBUIS[1:4])
FAMILY = " ".join(host.record for host in WEBUIS[4:])
REFORGE = "reforge reforge-gradio4"
