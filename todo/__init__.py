"""ToDo: token downsampling for efficient generation of high-resolution images with Stable Diffusion.

    patch = todo.apply_patch(model, todo.Settings(mode="manual", factor=2))
    ...
    todo.remove_patch(model)

Source: Smith, Saxena, Saha, IJCAI 2024, arXiv 2402.13573.
"""

from .patch import Patch, apply_patch, patched, remove_patch
from .prediction import Plan, plan
from .report import BlockReport
from .settings import Settings, SettingsError
from .unet import UnsupportedModelError
from .version import __version__

__all__ = [
    "BlockReport",
    "Patch",
    "Plan",
    "Settings",
    "SettingsError",
    "UnsupportedModelError",
    "__version__",
    "apply_patch",
    "patched",
    "plan",
    "remove_patch",
]
