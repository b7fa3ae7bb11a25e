"""What the host can be asked, on A1111 and the Forge family alike.

Nothing here loads a model: `shared.sd_model` would, `model_data` does not.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from modules import sd_models, shared
from torch.nn import Module


def loaded_model() -> Any:
    """The checkpoint that the host has loaded; None before the first."""
    model = sd_models.model_data.sd_model
    # Forge starts with a placeholder, which has no checkpoint.
    return model if getattr(model, "sd_checkpoint_info", None) is not None else None


def unet_owner(model: Any) -> Any:
    """The part of a host's model in which `todo.apply_patch` finds the UNet."""
    # Forge: modules_forge keeps it beside the engine, shared by all clones of its patcher.
    forge_objects = getattr(model, "forge_objects", None)
    return model if forge_objects is None else forge_objects.unet


def controlnets(model: Any, p: Any) -> list[Module]:
    """The networks of the ControlNets that run beside the model's UNet in this generation."""
    forge_objects = getattr(model, "forge_objects", None)
    if forge_objects is None:
        # The extension sd-webui-controlnet: its script holds what it hooked on the UNet.
        hooks = [getattr(script, "latest_network", None) for script in getattr(p.scripts, "alwayson_scripts", ())]
        holders = [unit.control_model for hook in hooks for unit in getattr(hook, "control_params", None) or ()]
    else:
        holders = list(_linked(getattr(forge_objects.unet, "controlnet_linked_list", None)))
    networks = [getattr(holder, "control_model", None) for holder in holders]
    return list(dict.fromkeys(network for network in networks if isinstance(network, Module)))


def _linked(control: Any) -> Iterator[Any]:
    """The Forge family chains its ControlNets, the last one first."""
    while control is not None:
        yield control
        control = getattr(control, "previous_controlnet", None)


def family(model: Any) -> str | None:
    """The model's family among those that there is a plan for; None for any other."""
    for flag, name in (("is_sdxl", "sdxl"), ("is_sd2", "sd2"), ("is_sd1", "sd1")):
        if getattr(model, flag, False):
            return name
    return None


def checkpoint(model: Any) -> str:
    """The model's title, as the host's menu shows it."""
    return str(model.sd_checkpoint_info.title)


def denoiser(params: Any) -> Any:
    """The host's denoiser that makes the call announced by `params`, with its `p`, `step` and `total_steps`; None
    where it cannot be found."""
    given = getattr(params, "denoiser", None)
    if given is not None:
        return given
    # WebUI 1.6 and 1.7 do not pass it on; but it is what makes the call.
    frame = inspect.currentframe()
    while frame is not None:
        caller = frame.f_locals.get("self")
        if hasattr(caller, "total_steps") and getattr(caller, "p", None) is not None:
            return caller
        frame = frame.f_back
    return None


def interrupted() -> bool:
    """Whether the user cut the generation short."""
    return bool(shared.state.interrupted or shared.state.skipped)


def log_level() -> str | None:
    """The level that the user started the host with."""
    return getattr(shared.cmd_opts, "loglevel", None)
