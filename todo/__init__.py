"""ToDo: token downsampling for efficient generation of high-resolution images with Stable Diffusion.

    patch = todo.apply_patch(model, todo.Settings(mode="manual", factor=2))
    ...
    todo.remove_patch(model)

Source: Smith, Saxena, Saha, IJCAI 2024, arXiv 2402.13573.
"""

import sys

try:
    from .patch import Patch, apply_patch, patched, remove_patch
    from .prediction import Plan, plan
    from .report import BlockReport
    from .settings import Settings, SettingsError
    from .unet import UnsupportedModelError
except (ModuleNotFoundError, KeyboardInterrupt) as error:
    # `python -m todo` imports this package before __main__ can catch the error and report it in one line.
    missing = getattr(error, "name", None)
    if sys.argv[0] != "-m" or (missing not in ("torch", "einops") and not isinstance(error, KeyboardInterrupt)):
        raise
    sys.exit(f"python -m todo needs the package {missing!r}; pip install torch einops" if missing else "Interrupted.")

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
