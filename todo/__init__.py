"""ToDo: token downsampling for efficient generation of high-resolution images with Stable Diffusion.

    patch = todo.apply_patch(model, todo.Settings(mode="manual", factor=2))
    ...
    todo.remove_patch(model)

Source: Smith, Saxena, Saha, IJCAI 2024, arXiv 2402.13573.
"""

import sys

try:
    from .block import BlockReport
    from .patch import Patch, apply_patch, patched, remove_patch
    from .plan import Plan, plan
    from .settings import Settings, SettingsError
    from .unet import UnsupportedModelError
except ModuleNotFoundError as error:
    # `python -m todo` imports this package before __main__ can catch the error and report it in one line.
    if sys.argv[0] != "-m" or error.name not in ("torch", "einops"):
        raise
    sys.exit(f"python -m todo needs the package {error.name!r}; pip install torch einops")

__all__ = [
    "BlockReport",
    "Patch",
    "Plan",
    "Settings",
    "SettingsError",
    "UnsupportedModelError",
    "apply_patch",
    "patched",
    "plan",
    "remove_patch",
]
