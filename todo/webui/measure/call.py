"""The host's own UNet call, timed with several settings.

A hidden generation takes the host to its first UNet call, with the model in memory and the precision and attention
optimisation of a real generation. The generation is stopped after its first step.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from torch import Tensor
from torch.nn import Module

from ...patch import apply_quietly
from ...settings import Settings
from ...unet import UnsupportedModelError, find_unet
from .. import host, runs
from ..passes import Pass
from . import rounds

MEASUREMENT = "todo_measurement"
"""The attribute of `p` that holds its Measurement."""

COMPILED = "this model is under torch.compile, which would compile it for each setting. Measure without torch.compile"


class StoppedError(Exception):
    """The user stopped the measurement."""


class CompiledError(Exception):
    """The model is under torch.compile. Its calls would mostly measure compilation."""


class _MeasuredError(Exception):
    """Ends the hidden generation once everything is measured."""


class Measurement:
    """Times the UNet call of one pass with several settings.

    Args:
        sampling_pass: the pass to measure.
        settings: what to try; None is dense.
        on_progress: called with the fraction that is done, 0 to 1.

    Attributes:
        timed: the result for each of the settings; empty until the first step.
        calls_per_step: UNet calls in a sampling step, in units of the call that was timed. The host may split a batch.
    """

    def __init__(self, sampling_pass: Pass, settings: Sequence[Settings | None], on_progress: Callable[[float], None]):
        self.timed: list[rounds.Timed] = []
        self.calls_per_step = 0.0
        self._pass = sampling_pass
        self._settings = settings
        self._on_progress = on_progress
        self._refused: Exception | None = None
        self._steps = 0
        self._timing = False
        self._first_batch = 0
        self._on_model = ExitStack()

    def run(self) -> None:
        """Times all settings.

        Raises:
            StoppedError: the user stopped it.
            UnsupportedModelError: the model has no self-attention that ToDo can patch.
            CompiledError: the model is under torch.compile.
        """
        p = runs.text_to_image(self._pass.width, self._pass.height, self._pass.batch)
        setattr(p, MEASUREMENT, self)
        try:
            with self._on_model:
                runs.generate(p)
        except _MeasuredError:
            return
        raise self._refused or StoppedError

    def step(self) -> None:
        """Before each denoiser call."""
        self._steps += 1
        if self._steps > 1:
            return
        try:
            unet = find_unet(host.unet_owner(host.loaded_model()))
            if _is_compiled(unet):
                raise CompiledError(COMPILED)
        except (UnsupportedModelError, CompiledError) as error:
            self._refused = error
            runs.interrupt()
            return
        handle = unet.register_forward_pre_hook(self._on_unet, with_kwargs=True)
        self._on_model.callback(handle.remove)

    def _on_unet(self, unet: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Times the first UNet call of the step, inside the host's own call, and counts the others."""
        if self._timing:
            return
        if self._steps > 1:
            raise _MeasuredError
        latent: Tensor = args[0] if args else kwargs["x"]
        if not self.timed:
            self._first_batch = latent.shape[0]
            self._time(unet, partial(unet, *args, **kwargs), latent)
        self.calls_per_step += latent.shape[0] / self._first_batch

    def _time(self, unet: Module, call: Callable[[], object], latent: Tensor) -> None:
        self._timing = True
        steps, hires = self._pass.steps, self._pass.hires
        self.timed = rounds.measure(unet, call, self._settings, (steps, hires), latent.device, self._on_progress)
        self._timing = False
        fitting = [each for each in self.timed if each.seconds]
        if not fitting:
            self.calls_per_step = 1.0
            raise _MeasuredError
        # The host now continues its step, which should take as little time and memory as possible.
        fastest = min(fitting, key=lambda each: each.seconds or 0.0).settings
        if fastest:
            patch = apply_quietly(unet, fastest)
            self._on_model.callback(patch.remove)
            patch.at(0, steps, hires)


def step(denoiser: Any) -> None:
    """Before a denoiser call of any generation."""
    measurement = getattr(denoiser.p, MEASUREMENT, None) if denoiser else None
    if measurement:
        measurement.step()


def _is_compiled(network: Module) -> bool:
    """Whether a network or part of it is under torch.compile: wrapped, compiled in place, by a compiled forward, or by
    a wrapper that is in place only during the call, as in Forge Neo, and has compiled the network's forward before."""
    if "torch._dynamo" not in sys.modules:
        return False
    return _has_compiled_code(network) or any(
        getattr(module, "_orig_mod", None) is not None
        or getattr(module, "_compiled_call_impl", None) is not None
        or hasattr(module.forward, "_torchdynamo_orig_callable")
        for module in network.modules()
    )


def _has_compiled_code(network: Module) -> bool:
    dynamo: Any = sys.modules["torch._dynamo"]
    entries = getattr(dynamo.eval_frame, "_debug_get_cache_entry_list", None)
    code = getattr(type(network).forward, "__code__", None)
    return bool(entries and code and entries(code))
