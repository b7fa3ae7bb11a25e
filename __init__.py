"""ComfyUI's entry: it loads this folder as a package when it lies in `custom_nodes`."""

import sys

if "comfy" in sys.modules:  # other tools take every folder with an __init__.py for a package
    from .todo.comfyui import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

    __all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
