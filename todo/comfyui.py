"""The ComfyUI node. It puts a wrapper on the model that patches the UNet while a sampler runs, and only then: all
clones of a model share one UNet.

Source: ComfyUI, comfy/patcher_extension.py (wrappers), comfy/samplers.py (how samplers are called).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from comfy.patcher_extension import CallbacksMP, WrappersMP
from torch import nn

from .patch import Patch, patched_quietly
from .report import OTHER_MODEL, in_words, why_none
from .settings import KNOBS, Knob, Settings, SettingsError
from .unet import UnsupportedModelError

_KEY = "todo"
_OF_HIRES_FIX = ("passes", "hires_factor")
"""ComfyUI has no hires. fix: each sampler has a node of its own."""

_TYPES = {bool: "BOOLEAN", int: "INT", float: "FLOAT"}

logger = logging.getLogger("todo")


class TokenDownsampling:
    """The node: a model in, a model out that samples with ToDo."""

    CATEGORY = "model_patches/unet"
    DESCRIPTION = (
        "Speeds up large images of SD1.x, SD2.x and SDXL: self-attention computes keys and values from fewer tokens. "
        "The log says after each run what was downsampled."
    )
    RETURN_TYPES = ("MODEL",)
    FUNCTION = "patch"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802, ComfyUI's name
        knobs = {name: _input(knob) for name, knob in KNOBS.items() if name not in _OF_HIRES_FIX}
        return {"required": {"model": ("MODEL",), **knobs}}

    @classmethod
    def VALIDATE_INPUTS(cls, start: Any, end: Any) -> bool | str:  # noqa: N802
        """Before anything is computed. A value that comes through a link is not known yet."""
        try:
            Settings(start=start, end=end)
        except SettingsError as error:
            return str(error)
        return True

    def patch(self, model: Any, **values: Any) -> tuple[Any]:
        """A clone of the model that is patched whenever it samples. With a wrong value it is the model as it was."""
        try:
            settings = Settings(**values)
        except SettingsError as error:
            logger.error("ToDo error: %s. The image is made without ToDo.", error)
            return (model,)

        runs: list[Any] = []

        def sampled(executor: Any, guider: Any, sigmas: Any, extra_args: Any, callback: Any, *rest: Any) -> Any:
            """Around one run of a sampler."""
            runs.append(guider)
            with _reported(guider, settings) as patch:
                return executor(guider, sigmas, extra_args, _telling(patch, callback, len(sigmas) - 1), *rest)

        def cleaned_up(patcher: Any) -> None:
            """When the model has been used."""
            if not runs:
                logger.info("ToDo: no effect on the second model of a guider, which runs the first one's nodes alone")
            runs.clear()

        clone = model.clone()
        # Of several nodes in a row, the last one counts.
        clone.remove_wrappers_with_key(WrappersMP.SAMPLER_SAMPLE, _KEY)
        clone.remove_callbacks_with_key(CallbacksMP.ON_CLEANUP, _KEY)
        clone.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, _KEY, sampled)
        clone.add_callback_with_key(CallbacksMP.ON_CLEANUP, _KEY, cleaned_up)
        return (clone,)


def _input(knob: Knob) -> tuple[Any, dict[str, Any]]:
    """A knob in the form of the node's inputs."""
    about = f"{knob.help} Only in mode {knob.mode}." if knob.mode else knob.help
    options: dict[str, Any] = {"default": knob.default, "display_name": knob.label, "tooltip": about}
    if knob.choices:
        return [str(choice) for choice in knob.choices], {**options, "default": str(knob.default)}
    if knob.kind is not bool:
        options |= {"min": knob.kind(knob.minimum), "max": knob.kind(knob.maximum), "step": knob.kind(knob.step)}
    if knob.kind is float:
        options["round"] = 0.01  # or the page rounds a ratio of 2.25 to 2.3
    return _TYPES[knob.kind], options


@contextmanager
def _reported(guider: Any, settings: Settings) -> Iterator[Patch | None]:
    """The patch during a run, and a line in the log about what it did, however the run ends. None if the model has
    nothing to patch."""
    controlnets = list(dict.fromkeys(_controlnets(guider.conds)))
    with ExitStack() as stack:
        try:
            patch = stack.enter_context(patched_quietly(guider.inner_model.diffusion_model, settings, controlnets))
        except UnsupportedModelError as error:
            logger.info("ToDo: no effect %s", OTHER_MODEL.format(type(guider.inner_model).__name__))
            logger.debug("ToDo: %s", error)
            yield None
            return
        patch.at(0, 1)

        def log(error: type[BaseException] | None, *_: Any) -> None:
            rows = patch.report()
            if error is None or any(row.calls for row in rows):
                reason = why_none(rows, settings)
                logger.info("ToDo: %s", f"no effect {reason}" if reason else "; ".join(in_words(rows)))

        stack.push(log)
        yield patch


def _telling(patch: Patch | None, callback: Any, steps: int) -> Any:
    """The callback of a run, which samplers call within each step, so that it also tells the patch."""

    def stepped(step: int, *rest: Any) -> None:
        if patch:
            patch.at(step + 1, steps)
        if callback is not None:
            callback(step, *rest)

    return stepped


def _controlnets(conds: dict[str, list[dict[str, Any]]]) -> Iterator[nn.Module]:
    """The ControlNets of a run's conditionings. Those of one conditioning form a chain."""
    for conditionings in conds.values():
        for conditioning in conditionings:
            control = conditioning.get("control")
            while control is not None:
                network = getattr(control, "control_model", None)
                if isinstance(network, nn.Module):
                    yield network
                control = getattr(control, "previous_controlnet", None)


NODE_CLASS_MAPPINGS = {"ToDoTokenDownsampling": TokenDownsampling}
NODE_DISPLAY_NAME_MAPPINGS = {"ToDoTokenDownsampling": "ToDo · Token Downsampling"}
