"""ToDo: token downsampling for efficient generation of high-resolution images with Stable Diffusion.

    patch = todo.apply_patch(model, todo.Settings(mode="manual", factor=2))
    ...
    todo.remove_patch(model)

Source: Smith, Saxena, Saha, IJCAI 2024, arXiv 2402.13573.
"""

from todo.block import BlockReport
from todo.patch import Patch, apply_patch, patched, remove_patch
from todo.plan import Plan, plan
from todo.settings import Settings, SettingsError
from todo.unet import UnsupportedModelError

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
