"""What the host can tell, on A1111 as well as on the Forge family.

Nothing here loads a model. Reading `shared.sd_model` would; reading `model_data` does not.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from modules import sd_models, shared
from torch.nn import Module

from ..prediction import Phrase
from ..report import OTHER_MODEL
from .passes import Pass

NO_MODEL = "no model is loaded yet"


def loaded_model() -> Any:
    """The model that the host has loaded; None before it has loaded one."""
    model = sd_models.model_data.sd_model
    # Forge starts with a placeholder that has no checkpoint.
    return model if getattr(model, "sd_checkpoint_info", None) is not None else None


def unet_owner(model: Any) -> Any:
    """The part of a host's model that `apply_patch` takes."""
    # Forge: the UNet belongs to a patcher next to the model. All clones of the patcher share it.
    forge_objects = getattr(model, "forge_objects", None)
    return model if forge_objects is None else forge_objects.unet


def controlnets(model: Any, p: Any) -> list[Module]:
    """The ControlNets that run with the model's UNet in this generation."""
    forge_objects = getattr(model, "forge_objects", None)
    if forge_objects is None:
        # The extension sd-webui-controlnet keeps them in an attribute of its script.
        hooks = [getattr(script, "latest_network", None) for script in getattr(p.scripts, "alwayson_scripts", ())]
        holders = [unit.control_model for hook in hooks for unit in getattr(hook, "control_params", None) or ()]
    else:
        holders = list(_linked(getattr(forge_objects.unet, "controlnet_linked_list", None)))
    networks = [getattr(holder, "control_model", None) for holder in holders]
    return list(dict.fromkeys(network for network in networks if isinstance(network, Module)))


def _linked(control: Any) -> Iterator[Any]:
    """The ControlNets of the Forge family, which form a linked list that begins with the last one."""
    while control is not None:
        yield control
        control = getattr(control, "previous_controlnet", None)


def family(model: Any) -> str | None:
    """The model's family as `plan` names it; None for a model that `plan` does not know."""
    for flag, name in (("is_sdxl", "sdxl"), ("is_sd2", "sd2"), ("is_sd1", "sd1")):
        if getattr(model, flag, False):
            return name
    return None


def kind(model: Any) -> str:
    """What the host calls a model of this kind, such as 'Flux' or 'StableDiffusion3'."""
    return type(model).__name__


def without_family(model: Any) -> Phrase:
    """Why nothing can be said about the loaded model, which has no family that `plan` knows."""
    return (f"no effect {OTHER_MODEL}", kind(model)) if model else (NO_MODEL,)


def checkpoint(model: Any) -> str:
    """The title of the model's checkpoint, as in the host's menu."""
    return str(model.sd_checkpoint_info.title)


def attention() -> str:
    """The attention optimisation that the host's settings choose; '' on a host where a start option chooses it."""
    return str(getattr(shared.opts, "cross_attention_optimization", ""))


def passes_of(p: Any) -> list[Pass]:
    """The passes of a generation whose sizes the host has worked out."""
    steps = p.steps
    if hasattr(p, "init_images") and not getattr(shared.opts, "img2img_fix_steps", False):
        steps = int(min(p.denoising_strength, 0.999) * steps) + 1
    first = Pass(p.width, p.height, p.batch_size, False, steps)
    if not getattr(p, "enable_hr", False):
        return [first]
    return [first, Pass(p.hr_upscale_to_x, p.hr_upscale_to_y, p.batch_size, True, p.hr_second_pass_steps or p.steps)]


def denoiser(params: Any) -> Any:
    """The host's denoiser behind a callback's `params`. It has the attributes `p`, `step` and `total_steps`. None if it
    cannot be found."""
    given = getattr(params, "denoiser", None)
    if given is not None:
        return given
    # WebUI 1.6 and 1.7 do not pass the denoiser, but it is one of the callers.
    callers = (frame.f_locals.get("self") for frame in _frames())
    return next((each for each in callers if hasattr(each, "total_steps") and getattr(each, "p", None)), None)


def callers() -> list[tuple[str, str]]:
    """Who asked for the generation whose event this is and for those that it is part of: module and function, such as
    ('modules.txt2img', 'txt2img'), the innermost first."""
    frames = [_name(frame) for frame in _frames()]
    process_images = ("modules.processing", "process_images")
    return [caller for name, caller in pairwise(frames) if name == process_images]


def is_within(function: str) -> bool:
    """Whether a function of that name is running, in any module."""
    return any(frame.f_code.co_name == function for frame in _frames())


def _frames() -> Iterator[Any]:
    """The frames of the calling thread, the innermost first."""
    frame = inspect.currentframe()
    while frame is not None:
        yield frame
        frame = frame.f_back


def _name(frame: Any) -> tuple[str, str]:
    return str(frame.f_globals.get("__name__")), frame.f_code.co_name


def ended() -> str:
    """How the user ended the generation: 'interrupted', also if it will end after this image; 'skipped' for a batch;
    '' if they did not."""
    if shared.state.interrupted or stopping():
        return "interrupted"
    return "skipped" if shared.state.skipped else ""


def stopping() -> bool:
    """Whether the user interrupted the generation so that it ends after this image, which newer hosts offer."""
    return bool(getattr(shared.state, "stopping_generation", False))


def log_level() -> str | None:
    """The log level from the host's command line."""
    return getattr(shared.cmd_opts, "loglevel", None)
