"""Generations that the extension starts itself, and helpers that restore the host's state afterwards."""

from __future__ import annotations

import contextvars
import random
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from modules import call_queue, devices, images, paths, processing, scripts, shared

from .. import timing

try:
    from modules_forge import main_thread
except ImportError:  # A1111
    main_thread = None

_Result = TypeVar("_Result")

_SKIP_EARLY = "skip_early_cond"
"""The option 'Ignore negative prompt during early sampling'. It must be below 0: Forge Classic treats the first step as
early even at 0, which means off."""


@dataclass(frozen=True)
class RandomState:
    """The state of every random generator that a generation may use without a seed."""

    python: Any
    numpy: Any
    torch: Any
    cuda: Any


def random_state() -> RandomState:
    """The current state of the random generators."""
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
    """Sets the random generators to `state` for the duration of a `with` block."""
    present = random_state()
    _set_random_state(state)
    try:
        yield
    finally:
        _set_random_state(present)


@contextmanager
def last_prompt_kept() -> Iterator[None]:
    """Keeps generations in a `with` block out of the file that the page's button for the last prompt reads."""
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
    """Runs the generation of `p`, with its scripts. May be called inside another generation."""
    with closing(p):
        return processing.process_images(p)


def in_turn(work: Callable[[], _Result]) -> _Result:
    """Runs `work` as a job of the host: after the jobs in the queue, on the thread where the host runs them."""

    def job() -> tuple[_Result | None, BaseException | None]:
        shared.state.begin(job="todo")
        try:
            return work(), None
        except BaseException as error:
            # Returned, not raised: the thread of the Forge family would print the error and swallow it. The frames are
            # cleared because they hold tensors, which would stay in device memory as long as the error lives.
            traceback.clear_frames(error.__traceback__)
            return None, error
        finally:
            shared.state.end()

    # gradio 4 finds the page's progress bar through the context of the thread on which it called us.
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
    """A `p` for images that are not shown or saved, without scripts and with few steps."""
    p = processing.StableDiffusionProcessingTxt2Img(
        sd_model=shared.sd_model, prompt="", seed=1, steps=2, sampler_name="Euler", cfg_scale=7.0,
        width=width, height=height, batch_size=batch_size, do_not_save_samples=True, do_not_save_grid=True,
    )  # fmt: skip
    p.scripts, p.script_args = scripts.ScriptRunner(), []  # not every host accepts None
    return p


@contextmanager
def negative_prompt_in_every_step() -> Iterator[None]:
    """Disables the option 'Ignore negative prompt during early sampling' for the duration of a `with` block.

    The first step then costs as much as the others.
    """
    data = getattr(shared.opts, "data", {})
    chosen = {name: data[name] for name in (_SKIP_EARLY,) if name in data}
    data[_SKIP_EARLY] = -1.0
    try:
        yield
    finally:
        del data[_SKIP_EARLY]
        data.update(chosen)


def interrupt() -> None:
    """Stops the running generation before its next step."""
    shared.state.interrupt()


def positions(p: Any, processed: Any) -> range:
    """Where the images of a generation stand among those that it returns, besides the grid, masks and what scripts
    added."""
    first = processed.index_of_first_image
    masks = _is_on("return_mask") + _is_on("return_mask_composite")
    each = 1 + (masks if getattr(p, "mask_for_overlay", None) is not None else 0)
    return range(first, len(processed.images), each)[: len(processed.infotexts) - first]


def _is_on(option: str) -> bool:
    """A switch in the host's settings. It is off on a host that lacks it, as ersatzForge does some."""
    return bool(getattr(shared.opts, option, False))


def append(
    processed: Any, images: Sequence[Any], infotexts: Sequence[str], seeds: Sequence[int], subseeds: Sequence[int]
) -> None:
    """Appends images to those of a generation, each with its infotext and seeds."""
    # Masks have none, but the host looks up an image's by its position.
    count, first = len(processed.images), processed.index_of_first_image
    processed.infotexts = _filled(processed.infotexts, count, processed.info) + list(infotexts[: len(images)])
    for name, own in (("seed", seeds), ("subseed", subseeds)):
        # A new list: `p` has the same one.
        given = _filled(getattr(processed, f"all_{name}s"), count - first, getattr(processed, name))
        setattr(processed, f"all_{name}s", given + list(own[: len(images)]))
    processed.images += images


def _filled(values: Sequence[Any], length: int, value: Any) -> list[Any]:
    return [*values, *[value] * (length - len(values))]


def add_image(p: Any, processed: Any, image: Any, name: str) -> None:
    """Appends an image to those of a generation and saves it like a grid. It gets the infotext of the first image.

    Args:
        name: prefix of the file name.
    """
    opts = shared.opts
    text = processed.infotexts[processed.index_of_first_image]
    if opts.enable_pnginfo:
        image.info["parameters"] = text
    if opts.grid_save and not p.do_not_save_grid:
        short = not _is_on("grid_extended_filename")
        seed, prompt = processed.all_seeds[0], processed.all_prompts[0]
        images.save_image(
            image, p.outpath_grids, name, seed, prompt, opts.grid_format,
            info=text, short_filename=short, p=p, grid=True,
        )  # fmt: skip
    append(processed, [image], [text], processed.all_seeds[:1], processed.all_subseeds[:1])


def add_jobs(p: Any, times: int) -> None:
    """Makes the progress bar expect the jobs of `p` that many times more."""
    shared.state.job_count += times * p.n_iter * (2 if getattr(p, "enable_hr", False) else 1)


def announce(text: str) -> None:
    """Shows what is at work on the progress bar; '' nothing."""
    shared.state.textinfo = text or None


def font(size: int) -> Any:
    """The host's font, with its size in pixels."""
    return images.get_font(size)


def wait_for_device() -> None:
    """Waits until the host's device has finished all queued work."""
    timing.wait(devices.device)


def free_memory() -> None:
    """Frees device memory that is no longer in use, after a failure."""
    devices.torch_gc()
