"""What the host is made to do: generations of our own, and what each must leave as it was."""

from __future__ import annotations

import contextvars
import random
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from modules import call_queue, devices, images, paths, processing, scripts, shared

from todo import timing

try:
    from modules_forge import main_thread
except ImportError:  # A1111
    main_thread = None

_Result = TypeVar("_Result")

_SKIP_EARLY = "skip_early_cond"
"""Classic counts the first step as early even where that is off; nothing is early for a share below 0."""


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
        if text is None:
            file.unlink(missing_ok=True)
        else:
            file.write_bytes(text)


def generate(p: Any) -> Any:
    """Makes the pictures of `p`, scripts included, within or beside another generation."""
    with closing(p):
        return processing.process_images(p)


def in_turn(work: Callable[[], _Result]) -> _Result:
    """Does `work` as a job of the host's: when those before it are done, and where the host does them."""

    def job() -> tuple[_Result | None, BaseException | None]:
        shared.state.begin(job="todo")
        try:
            return work(), None
        except BaseException as error:
            # The error goes on, and what its frames hold of the device's memory must not. The Forge family's thread
            # would print an error and go on without it.
            traceback.clear_frames(error.__traceback__)
            return None, error
        finally:
            shared.state.end()

    # gradio 4 finds the page's progress bar by the context of the thread that it called.
    context = contextvars.copy_context()
    on_thread = partial(main_thread.run_and_wait_result, context.run, job) if main_thread else job
    result, error = call_queue.wrap_queued_call(on_thread)()
    try:
        if error:
            raise error
    finally:
        del error
    return cast("_Result", result)


def text_to_image(width: int, height: int, batch_size: int) -> Any:
    """A `p` for pictures that nobody is to see, without scripts and of few steps."""
    p = processing.StableDiffusionProcessingTxt2Img(
        sd_model=shared.sd_model, prompt="", seed=1, steps=2, sampler_name="Euler", cfg_scale=7.0,
        width=width, height=height, batch_size=batch_size, do_not_save_samples=True, do_not_save_grid=True,
    )  # fmt: skip
    p.scripts, p.script_args = scripts.ScriptRunner(), []  # not every host takes None
    return p


@contextmanager
def negative_prompt_in_every_step() -> Iterator[None]:
    """The first step is like the others, whatever the option 'Ignore negative prompt during early sampling' says, for
    the length of a `with` block."""
    data = getattr(shared.opts, "data", {})
    chosen = {name: data[name] for name in (_SKIP_EARLY,) if name in data}
    data[_SKIP_EARLY] = -1.0
    try:
        yield
    finally:
        del data[_SKIP_EARLY]
        data.update(chosen)


def interrupt() -> None:
    """Ends the generation that runs now before its next step."""
    shared.state.interrupt()


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
    """Waits until the host's device has done what it was asked to do."""
    timing.wait(devices.device)


def free_memory() -> None:
    """After a failure: gives back what no longer is in use."""
    devices.torch_gc()
