"""The ComfyUI node. It puts a wrapper on the model that patches the UNet while a sampler runs, and only then: all
clones of a model share one UNet.

Source: ComfyUI, comfy/patcher_extension.py (wrappers), comfy/samplers.py (how samplers are called), comfy/multigpu.py
(several GPUs), execution.py (what happens to a wrong input), comfy_execution/progress.py (when a node has ended).
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from comfy.patcher_extension import CallbacksMP, WrappersMP
from torch import nn

from .patch import Patch, patched_quietly
from .report import OTHER_MODEL, BlockReport, in_words, why_none
from .settings import KNOBS, Settings, SettingsError, with_labels
from .unet import UnsupportedModelError

try:
    from comfy_api.latest import ComfyExtension, io
    from comfy_execution.progress import ProgressHandler, add_progress_handler
    from comfy_execution.utils import get_executing_context
except ImportError:  # an older ComfyUI
    io = None

NODE = "ToDoTokenDownsampling"
NAME = "ToDo · Token Downsampling"

_KEY = "todo"
_SECOND_MODEL = "on the second model of a guider, which runs the first one's nodes alone"

logger = logging.getLogger("todo")


def _inputs() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The name, type and options of the input for each knob, except hires. fix's: each sampler has its own node."""
    for name, knob in KNOBS.items():
        if knob.place == "hires":
            continue
        about = f"{knob.help} Only in mode {knob.mode}." if knob.mode else knob.help
        options: dict[str, Any] = {"default": knob.default, "display_name": knob.label, "tooltip": about}
        options["advanced"] = knob.place == "more"
        if knob.choices:
            options |= {"default": str(knob.default), "options": [str(choice) for choice in knob.choices]}
        elif knob.kind is not bool:
            options |= {"min": knob.kind(knob.minimum), "max": knob.kind(knob.maximum), "step": knob.kind(knob.step)}
        if knob.kind is float:
            options["round"] = 0.01  # or the page rounds a ratio of 2.25 to 2.3
        kind = "Combo" if knob.choices else {bool: "Boolean", int: "Int", float: "Float"}[knob.kind]
        yield name, kind, options


def _settings(values: dict[str, Any]) -> Settings:
    """The settings that a node's inputs ask for. Before a run, what comes through a link is None: the mode, too.

    Raises:
        ValueError: a value is wrong. (One that a validation raises is shown once; one that it returns, at each input.)
    """
    given = {name: value for name, value in values.items() if name in KNOBS and value is not None}
    try:
        return Settings(**{"mode": KNOBS["mode"].default, **given})
    except SettingsError as error:
        raise ValueError(with_labels(error)) from None


def _patched(model: Any, values: dict[str, Any]) -> Any:
    """A clone of the model that is patched whenever it samples. With a wrong value it is the model as it was."""
    try:
        sampling = _Sampling(_settings(values))
    except ValueError as error:
        logger.error("ToDo error: %s. The image is made without ToDo.", error)
        return model
    clone = model.clone()
    clone.remove_wrappers_with_key(WrappersMP.SAMPLER_SAMPLE, _KEY)  # of several nodes in a row, the last one counts
    clone.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, _KEY, sampling.sampled)
    for kind, call in ((CallbacksMP.ON_PRE_RUN, sampling.begin), (CallbacksMP.ON_CLEANUP, sampling.end)):
        clone.remove_callbacks_with_key(kind, _KEY)
        clone.add_callback_with_key(kind, _KEY, call)
    return clone


class _Sampling:
    """What happens whenever a node's model samples."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self._is_driven = False
        self._rows: list[BlockReport] = []
        self._reasons: dict[str, None] = {}

    def begin(self, patcher: Any) -> None:
        """Before a model is used, which may be the copy of another GPU, or a guider's second model."""
        self._is_driven = False

    def sampled(self, executor: Any, guider: Any, sigmas: Any, extra_args: Any, callback: Any, *rest: Any) -> Any:
        """Around one run of a sampler, which calls its callback within each step."""
        self._is_driven = True
        patches: list[Patch] = []

        def stepped(step: int, *rest: Any) -> None:
            for each in patches:
                each.at(step + 1, len(sigmas) - 1)
            if callback is not None:
                callback(step, *rest)

        with ExitStack() as stack:
            stack.push(lambda error, *_: self._ended(patches, error is not None))
            for model, controlnets in _networks(guider):
                try:
                    patch = stack.enter_context(patched_quietly(model.diffusion_model, self._settings, controlnets))
                    patch.at(0, 1)
                    patches.append(patch)
                except UnsupportedModelError as error:
                    self._reasons[OTHER_MODEL.format(type(model).__name__)] = None
                    logger.debug("ToDo: %s", error)
            return executor(guider, sigmas, extra_args, stepped, *rest)

    def end(self, patcher: Any) -> None:
        """When a model has been used, also if that failed before its sampler ran."""
        if not self._is_driven and sys.exc_info()[0] is None:
            self._reasons[_SECOND_MODEL] = None
            self._log_when_the_node_ends()

    def _ended(self, patches: list[Patch], failed: bool) -> None:
        rows = [row for patch in patches for row in patch.report()]
        if not failed or any(row.calls for row in rows):
            self._rows += rows
        if failed:
            self.log()
        else:
            self._log_when_the_node_ends()

    def _log_when_the_node_ends(self) -> None:
        """A node may run a sampler for each tile of an image."""
        node = get_executing_context() if io else None
        if node:
            add_progress_handler(_End(node.node_id, self))
        else:
            self.log()

    def log(self) -> None:
        """Says in a line what the runs since the last one did, and why they had no effect."""
        rows, self._rows, reasons, self._reasons = self._rows, [], self._reasons, {}
        if rows and (reason := why_none(rows, self._settings)):
            rows, reasons = [], {**reasons, reason: None}
        for reason in reasons:
            logger.info("ToDo: no effect %s", reason)
        if rows:
            logger.info("ToDo: %s", "; ".join(in_words(rows)))


def _networks(guider: Any) -> Iterator[tuple[Any, list[nn.Module]]]:
    """The model of each GPU that a run uses, with the ControlNets that run beside it."""
    clones = guider.model_options.get("multigpu_clones", {})
    models = {patcher.model: device for device, patcher in clones.items()} | {guider.inner_model: None}
    for model, device in models.items():
        yield model, list(dict.fromkeys(_controlnets(guider.conds, device)))


def _controlnets(conds: dict[str, list[dict[str, Any]]], device: Any) -> Iterator[nn.Module]:
    """The ControlNets of a run's conditionings, or their copies for a further GPU. Those of one form a chain."""
    for conditionings in conds.values():
        for conditioning in conditionings:
            control = conditioning.get("control")
            if control is not None and device is not None:
                control = control.get_instance_for_device(device)
            while control is not None:
                network = getattr(control, "control_model", None)
                if isinstance(network, nn.Module):
                    yield network
                control = getattr(control, "previous_controlnet", None)


class Classic:
    """The node for a ComfyUI without `comfy_api`: a model in, a model out that samples with ToDo."""

    CATEGORY = "model/patch/unet"
    DESCRIPTION = (
        "Speeds up large images of SD1.x, SD2.x and SDXL: self-attention computes keys and values from fewer tokens. "
        "The log says after each run what was downsampled."
    )
    SEARCH_ALIASES = ("speed up", "faster", "high resolution", "hires", "self-attention", "token merging")
    RETURN_TYPES = ("MODEL",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802, ComfyUI's name
        knobs = {name: (options.pop("options", kind.upper()), options) for name, kind, options in _inputs()}
        return {"required": {"model": ("MODEL",), **knobs}}

    @classmethod
    def VALIDATE_INPUTS(cls, **values: Any) -> bool:  # noqa: N802
        return bool(_settings(values))

    def execute(self, model: Any, **values: Any) -> tuple[Any]:
        return (_patched(model, values),)


if io:

    class TokenDownsampling(io.ComfyNode):
        """The node: a model in, a model out that samples with ToDo."""

        @classmethod
        def define_schema(cls) -> Any:
            """`advanced` and `search_aliases` are no arguments in the first versions of `comfy_api`."""
            inputs = [io.Model.Input("model")]
            for name, kind, options in _inputs():
                extra = {"advanced": options.pop("advanced")}
                inputs.append(getattr(io, kind).Input(name, extra_dict=extra, **options))
            schema = io.Schema(NODE, NAME, Classic.CATEGORY, inputs, [io.Model.Output()])
            schema.description = Classic.DESCRIPTION
            schema.search_aliases = list(Classic.SEARCH_ALIASES)
            return schema

        @classmethod
        def validate_inputs(cls, **values: Any) -> bool:
            return bool(_settings(values))

        @classmethod
        def execute(cls, model: Any, **values: Any) -> Any:
            return io.NodeOutput(_patched(model, values))

    class Extension(ComfyExtension):
        async def get_node_list(self) -> list[Any]:
            return [TokenDownsampling]

    class _End(ProgressHandler):
        """Waits for the end of a node. If it fails without a run that does, its end is noticed with the next prompt."""

        def __init__(self, node: str, sampling: _Sampling):
            super().__init__(f"{_KEY} {node} {id(sampling)}")  # one of a name counts
            self._node = node
            self._sampling = sampling

        def finish_handler(self, node_id: str, state: Any, prompt_id: str) -> None:
            if node_id == self._node:
                self._sampling.log()

        def reset(self) -> None:
            self._sampling.log()
