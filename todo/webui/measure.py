"""Measure on this GPU: how long a sampling step takes on this machine, dense and with ToDo.

A hidden generation takes the host to its first UNet call, with the model in memory and the precision and attention
optimisation of a real generation. That call is then timed with several settings in turn. The generation is stopped
after its first step.
"""

from __future__ import annotations

import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor
from torch.nn import Module

from ..patch import put_on
from ..plan import Phrase
from ..report import why_none
from ..settings import Settings, SettingsError
from ..unet import UnsupportedModelError, find_unet
from . import candidates, figures, host, live, measured, rounds, runs
from .figures import Pass
from .log import logger
from .request import message_for_page, page_passes, page_settings

MEASUREMENT = "todo_measurement"
"""The attribute of `p` that holds its Measurement."""

STOPPED = "Measurement stopped"
COMPILED = "this model is under torch.compile, which would compile it for each setting. Measure without torch.compile"

_pending: dict[str, threading.Event] = {}
"""An event for each measurement that is announced, waiting or running, by its token. Setting it stops it."""


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
        settings: the candidates; None is dense.
        on_progress: called with the fraction that is done, 0 to 1.

    Attributes:
        timed: the result for each of the settings; empty until the first step.
        calls_per_step: UNet calls in a sampling step, in units of the call that was timed. The host may split a batch.
        refused: why the model cannot be measured; None if it can.
    """

    def __init__(self, sampling_pass: Pass, settings: Sequence[Settings | None], on_progress: Callable[[float], None]):
        self.sampling_pass = sampling_pass
        self.settings = settings
        self.on_progress = on_progress
        self.timed: list[rounds.Timed] = []
        self.calls_per_step = 0.0
        self.refused: Exception | None = None
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
        size = self.sampling_pass
        p = runs.text_to_image(size.width, size.height, size.batch)
        setattr(p, MEASUREMENT, self)
        try:
            with self._on_model:
                runs.generate(p)
        except _MeasuredError:
            return
        raise self.refused or StoppedError

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
            self.refused = error
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
        steps, hires = self.sampling_pass.steps, self.sampling_pass.hires
        self.timed = rounds.measure(unet, call, self.settings, (steps, hires), latent.device, self.on_progress)
        self._timing = False
        fitting = [each for each in self.timed if each.seconds]
        if not fitting:
            self.calls_per_step = 1.0
            raise _MeasuredError
        # The host now continues its step, which should take as little time and memory as possible.
        fastest = min(fitting, key=lambda each: each.seconds or 0.0).settings
        if fastest:
            patch = put_on(unet, fastest)
            self._on_model.callback(patch.remove)
            patch.at(0, steps, hires)


def step(params: Any) -> None:
    """Before a denoiser call of any generation."""
    denoiser = host.denoiser(params)
    measurement = getattr(denoiser.p, MEASUREMENT, None) if denoiser else None
    if measurement:
        measurement.step()


def announce() -> str:
    """Makes it possible to stop a measurement that is about to begin. Returns the token to begin it with."""
    token = uuid.uuid4().hex
    _pending[token] = threading.Event()
    return token


def measure(sizes: str, values: Sequence[Any], progress: Callable[..., Any], token: str = "") -> str:
    """Measures the page's settings at the page's image sizes. The action of the button.

    Args:
        sizes: JSON with the image sizes, as in `page_passes`.
        values: the values of the page's controls.
        progress: called with the fraction that is done, 0 to 1, and `desc`, a description for the progress bar.
        token: that of the announcement; '' if there was none.

    Returns:
        HTML: a line and a plot for each pass, or an error message.
    """
    with _stoppable(token or announce()) as stop:
        try:
            settings = page_settings(values)
            passes = list(page_passes(sizes))
            idle = {each: why for each in passes if (why := candidates.no_effect(each, settings))}
            acting = [each for each in passes if each not in idle]
            results = []
            if acting:
                progress(0.0, desc="waiting in the queue")
                results = runs.in_turn(lambda: _measure_all(acting, settings, stop, progress))
            for result in results:
                logger.info(figures.line(result))
            # The first pass stands before the hires pass.
            notes = [figures.of_pass(each, [why]) for each, why in idle.items()]
            shown = [*notes, figures.page(results)]
            return "".join(shown if passes[0] in idle else reversed(shown))
        except StoppedError:
            return figures.message(STOPPED)
        except SettingsError as error:
            return figures.message(message_for_page(error))
        except CompiledError as error:
            return figures.message(f"Not measured: {error}")
        except UnsupportedModelError as error:
            logger.debug("%s", error)
            return figures.message(*live.without_family(host.loaded_model()))
        except Exception as error:
            logger.exception("Measuring failed")
            return figures.message(f"Measuring failed: {type(error).__name__}: {error}")


def stop() -> None:
    """Stops all measurements, including those that wait in the queue."""
    for event in list(_pending.values()):
        event.set()


@contextmanager
def _stoppable(token: str) -> Iterator[threading.Event]:
    try:
        yield _pending.setdefault(token, threading.Event())
    finally:
        del _pending[token]


def _measure_all(
    passes: Sequence[Pass], settings: Settings, stop: threading.Event, progress: Callable[..., Any]
) -> list[figures.Figures]:
    with runs.random_state_of(runs.random_state()), runs.last_prompt_kept(), runs.negative_prompt_in_every_step():
        return list(_measure_each(passes, settings, stop, progress))


def _measure_each(
    passes: Sequence[Pass], settings: Settings, stop: threading.Event, progress: Callable[..., Any]
) -> Iterator[figures.Figures]:
    for index, current in enumerate(passes):

        def on_progress(done: float, current: Pass = current, index: int = index) -> None:
            if stop.is_set() or host.ended():
                raise StoppedError
            progress((index + done) / len(passes), desc=f"{current.width}×{current.height}")

        on_progress(0.0)
        measurement = Measurement(current, [None, *candidates.candidates(settings, current.hires)], on_progress)
        measurement.run()
        yield _figures(measurement, settings)


def _figures(measurement: Measurement, chosen: Settings) -> figures.Figures:
    """The results per sampling step, with the labels that the page shows. `chosen` are the settings on the page."""
    current, family = measurement.sampling_pass, host.family(host.loaded_model())
    dense = measurement.timed[0]
    name = candidates.strength_knob(chosen, current.hires)
    rows = []
    for timed in measurement.timed:
        row = figures.Row(
            label=candidates.label_phrase(name, timed.settings),
            seconds=timed.seconds and timed.seconds * measurement.calls_per_step,
            speed_up=timed.speed_up(dense),
            predicted=_predicted(current, timed.settings, family),
            peak=timed.peak,
            chosen=timed.settings is not None and getattr(timed.settings, name) == getattr(chosen, name),
            note=_note(timed, current, family),
        )
        rows.append(row)
        if timed.settings and row.speed_up and not row.note:
            measured.remember(current, timed.settings, row.speed_up)
    return figures.Figures(current, tuple(rows))


def _note(timed: rounds.Timed, current: Pass, family: str | None) -> Phrase:
    """Why a call with ToDo had no effect; empty if it had one, and for dense."""
    reason = why_none(timed.report, timed.settings) if timed.settings and timed.rounds else ""
    if not reason or not timed.settings:
        return ()
    predicted = current.plan(timed.settings, family).why if family else ()
    return predicted or (f"no effect {reason}",)


def _predicted(current: Pass, settings: Settings | None, family: str | None) -> float | None:
    """The speed-up that the plan predicts; None for dense, and for a model that `plan` does not know."""
    if settings is None or family is None:
        return None
    return current.plan(settings, family).unet.times_less


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
