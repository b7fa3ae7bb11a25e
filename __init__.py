"""ComfyUI's entry: it loads this folder as a package when it lies in `custom_nodes`."""

import sys

if "comfy" in sys.modules:  # other tools take every folder with an __init__.py for a package
    from .todo import comfyui

    if comfyui.io:

        async def comfy_entrypoint() -> comfyui.Extension:
            return comfyui.Extension()

    else:
        NODE_CLASS_MAPPINGS = {comfyui.NODE: comfyui.Classic}
        NODE_DISPLAY_NAME_MAPPINGS = {comfyui.NODE: comfyui.NAME}
