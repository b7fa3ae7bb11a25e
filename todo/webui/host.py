"""What the host can be asked, on A1111 and the Forge family alike.

Nothing here loads a model: `shared.sd_model` would, `model_data` does not.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from modules import devices, images, paths, processing, sd_models, shared
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


@dataclass(frozen=True)
class RandomState:
    """Where every generator stands that a generation may draw from without a seed."""

    python: Any
    numpy: Any
    torch: Any
    cuda: Any


def random_state() -> RandomState:
    """Where the random generators stand now."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return RandomState(random.getstate(), np.random.get_state(), torch.get_rng_state(), cuda)


def _set_random_state(state: RandomState) -> None:
    random.setstate(state.python)
    np.random.set_state(state.numpy)
    torch.set_rng_state(state.torch)
    if state.cuda:
        torch.cuda.set_rng_state_all(state.cuda)


@contextmanager
def random_state_of(state: RandomState) -> Iterator[None]:
    """Turns the random generators back to `state` for the length of a `with` block."""
    present = random_state()
    _set_random_state(state)
    try:
        yield
    finally:
        _set_random_state(present)


@contextmanager
def prompt_history_kept() -> Iterator[None]:
    """What the page's button for the last prompt reads: a generation in the block does not count."""
    file = Path(paths.data_path) / "params.txt"
    text = file.read_bytes() if file.is_file() else None
    try:
        yield
    finally:
        if text is not None:
            file.write_bytes(text)


def generate(p: Any) -> Any:
    """Makes the pictures of `p`, scripts included, within or beside another generation."""
    with closing(p):
        return processing.process_images(p)


def pictures(p: Any, processed: Any) -> list[Any]:
    """The pictures that were made, without their grid, masks and what scripts put beside them."""
    first = processed.index_of_first_image
    masks = shared.opts.return_mask + shared.opts.return_mask_composite
    each = 1 + (masks if getattr(p, "mask_for_overlay", None) is not None else 0)
    return list(processed.images[first::each][: len(processed.infotexts) - first])


def add_picture(p: Any, processed: Any, picture: Any, name: str) -> None:
    """Puts a picture behind a generation's, with the first one's parameters, and saves it as the host saves grids."""
    opts = shared.opts
    text = processed.infotexts[processed.index_of_first_image]
    if opts.enable_pnginfo:
        picture.info["parameters"] = text
    if opts.grid_save and not p.do_not_save_grid:
        short = not opts.grid_extended_filename
        seed, prompt = processed.all_seeds[0], processed.all_prompts[0]
        images.save_image(
            picture, p.outpath_grids, name, seed, prompt, opts.grid_format,
            info=text, short_filename=short, p=p, grid=True,
        )  # fmt: skip
    # Masks have no text of their own; the host finds a picture's by its place.
    processed.infotexts += [processed.info] * (len(processed.images) - len(processed.infotexts)) + [text]
    processed.images.append(picture)


def add_jobs(p: Any) -> None:
    """Tells the progress bar that the generation of `p` is made twice."""
    shared.state.job_count += p.n_iter * (2 if getattr(p, "enable_hr", False) else 1)


def font(size: int) -> Any:
    """The host's own font, in pixels."""
    return images.get_font(size)


def wait_for_device() -> None:
    """Waits until the graphics card has done what it was asked to do."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def free_memory() -> None:
    """After a failure: gives back what no longer is in use."""
    devices.torch_gc()


def log_level() -> str | None:
    """The level that the user started the host with."""
    return getattr(shared.cmd_opts, "loglevel", None)
