"""Measure on this GPU: how long a sampling step takes here, dense and with ToDo.

A generation that nobody sees brings the host to the point where it calls the UNet, with everything that belongs to
that: the model in memory, its precision, the attention optimisation. There the same call is timed by several settings
in turn; after the first step the generation is given up.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor
from torch.nn import Module

from todo.patch import apply_patch
from todo.plan import plan
from todo.settings import KNOBS, Knob, Settings, SettingsError
from todo.unet import UnsupportedModelError, find_unet, is_compiled
from todo.webui import figures, host, rounds, runs
from todo.webui.figures import Pass
from todo.webui.generation import COMPILED, why_none
from todo.webui.log import logger
from todo.webui.request import requested

MEASUREMENT = "todo_measurement"
"""The attribute of `p` that holds its Measurement."""

BATCH = Knob("batch", kind=int, default=1, label="Batch size", help="pictures at once", minimum=1, maximum=64)
STOPPED = "Measurement stopped"

_PER_SIDE, _RATIOS = (1.5, 1.0, 0.75, 0.5), (0.75, 1.0, 1.5, 2.0)
"""What is measured, as multiples of the keys/values per side or of the ratio asked for."""

_pending: list[threading.Event] = []
"""One for each measurement asked for and not done; set, it is to stop."""


class StoppedError(Exception):
    """The user wants no more of this."""


class CompiledError(Exception):
    """Calls of a compiled model would be mostly its compiling."""


class _MeasuredError(Exception):
    """Ends the generation: all that was wanted of it is there."""


class Measurement:
    """The UNet calls of one pass, with settings of which None is dense.

    Attributes:
        timed: what came of each of the settings; empty until it is known.
        share: UNet calls that a sampling step takes, in calls like the one that was timed.
        refused: why the model cannot be measured; None if it can.
    """

    def __init__(self, of: Pass, settings: Sequence[Settings | None], tell: Callable[[float], None]):
        self.of = of
        self.settings = settings
        self.tell = tell
        self.timed: list[rounds.Timed] = []
        self.share = 0.0
        self.refused: Exception | None = None
        self._steps = 0
        self._timing = False
        self._first_batch = 0
        self._on_model = ExitStack()

    def run(self) -> None:
        """Times them all.

        Raises:
            StoppedError: the user stopped it.
            UnsupportedModelError: the model has no UNet that can be reached.
            CompiledError: the model is under torch.compile.
        """
        p = runs.text_to_image(self.of.width, self.of.height, self.of.batch)
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
            if is_compiled(unet):
                raise CompiledError(COMPILED)
        except (UnsupportedModelError, CompiledError) as error:
            self.refused = error
            runs.interrupt()
            return
        handle = unet.register_forward_pre_hook(self._on_unet, with_kwargs=True)
        self._on_model.callback(handle.remove)

    def _on_unet(self, unet: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The first call is timed here, where all that surrounds it is the host's; the step's others are counted."""
        if self._timing:
            return
        if self._steps > 1:
            raise _MeasuredError
        latent: Tensor = args[0] if args else kwargs["x"]
        if not self.timed:
            self._first_batch = latent.shape[0]
            self._time(unet, partial(unet, *args, **kwargs), latent)
        self.share += latent.shape[0] / self._first_batch

    def _time(self, unet: Module, call: Callable[[], object], latent: Tensor) -> None:
        self._timing = True
        self.timed = rounds.measure(unet, call, self.settings, self.of.hires, latent.device, self.tell)
        self._timing = False
        fitting = [each for each in self.timed if each.seconds]
        if not fitting:
            self.share = 1.0
            raise _MeasuredError
        # The host goes on with its step, in the way that takes least.
        fastest = min(fitting, key=lambda each: each.seconds or 0.0).settings
        if fastest:
            patch = apply_patch(unet, fastest)
            self._on_model.callback(patch.remove)
            patch.at(0, 0, self.of.hires)


def step(params: Any) -> None:
    """Before a denoiser call of any generation."""
    denoiser = host.denoiser(params)
    measurement = getattr(denoiser.p, MEASUREMENT, None) if denoiser else None
    if measurement:
        measurement.step()


def measure(asked: str, values: Sequence[Any], progress: Callable[..., Any]) -> str:
    """What the button does.

    Args:
        asked: JSON of the sizes that the page has now: {"batch": 1, "passes": [{"width": 512, "height": 512}]}, the
            second of the passes that of hires fix.
        values: the page's controls.
        progress: is given the share that is done, 0 to 1, and as `desc` what is being done.

    Returns:
        HTML: a line and a plot for each pass, or what went wrong.
    """
    with _stoppable() as stop:
        try:
            wanted = requested((True, *values[1:]), {})
            assert wanted  # it is asked for
            passes = list(_passes(asked))
            progress(0.0, desc="waiting for its turn")
            found = runs.in_turn(lambda: _all(passes, wanted.settings, stop, progress))
            for each in found:
                logger.info(figures.line(each))
            return figures.page(found)
        except StoppedError:
            return figures.message(STOPPED)
        except (SettingsError, CompiledError) as error:
            return figures.message(str(error))
        except UnsupportedModelError as error:
            return figures.message(f"ToDo has no effect on this model: {error}")
        except Exception as error:
            logger.exception("Measuring failed")
            return figures.message(f"Measuring failed: {type(error).__name__}: {error}")


def stop() -> None:
    """Ends every measurement, also one that waits for its turn."""
    for event in _pending:
        event.set()


def around(settings: Settings, hires: bool) -> list[Settings]:
    """The settings at their full strength, with neighbours in the one knob that sets it, from the weakest on."""
    steady = replace(settings, start=0.0, end=1.0, taper=False)
    name = strength(settings, hires)
    value, knob = getattr(settings, name), KNOBS[name]
    wanted = [value * share for share in (_PER_SIDE if name == "grid" else _RATIOS)]
    within = {value} | {knob.kind(each) for each in wanted if max(knob.minimum, 1) <= each <= knob.maximum}
    return [replace(steady, **{name: each}) for each in sorted(within, reverse=name == "grid")]


def strength(settings: Settings, hires: bool) -> str:
    """The knob that says how many keys/values are kept at the finest level."""
    if settings.mode == "auto":
        return "grid"
    return "hires_factor" if hires and settings.hires_factor else "factor"


@contextmanager
def _stoppable() -> Iterator[threading.Event]:
    event = threading.Event()
    _pending.append(event)
    try:
        yield event
    finally:
        _pending.remove(event)


def _passes(asked: str) -> Iterator[Pass]:
    """Raises SettingsError for a size that no picture can have."""
    page = json.loads(asked)
    batch = BATCH.parse(page.get(BATCH.name))
    for index, size in enumerate(page["passes"]):
        checked = plan(size["width"], size["height"], Settings(), "sd1")
        yield Pass(checked.width, checked.height, batch, hires=index > 0)


def _all(
    passes: Sequence[Pass], settings: Settings, stop: threading.Event, progress: Callable[..., Any]
) -> list[figures.Figures]:
    with runs.random_state_of(runs.random_state()), runs.prompt_history_kept(), runs.negative_prompt_in_every_step():
        return list(_each(passes, settings, stop, progress))


def _each(
    passes: Sequence[Pass], settings: Settings, stop: threading.Event, progress: Callable[..., Any]
) -> Iterator[figures.Figures]:
    for index, of in enumerate(passes):

        def tell(share: float, of: Pass = of, index: int = index) -> None:
            if stop.is_set() or host.interrupted():
                raise StoppedError
            progress((index + share) / len(passes), desc=f"{of.width}×{of.height}")

        tell(0.0)
        compared = around(settings, of.hires)
        measurement = Measurement(of, [None, *compared], tell)
        measurement.run()
        yield _figures(measurement, settings)


def _figures(measurement: Measurement, asked: Settings) -> figures.Figures:
    """What was measured, in steps of sampling and in the words of the page."""
    of, family = measurement.of, host.family(host.loaded_model())
    dense = measurement.timed[0]
    name = strength(asked, of.hires)
    rows = []
    for timed in measurement.timed:
        rows.append(
            figures.Row(
                label=_label(name, timed.settings),
                seconds=timed.seconds and timed.seconds * measurement.share,
                faster=timed.times_faster(dense),
                predicted=_predicted(of, timed.settings, family),
                peak=timed.peak,
                chosen=timed.settings is not None and getattr(timed.settings, name) == getattr(asked, name),
                note=why_none(timed.report) if timed.settings and timed.rounds else "",
            )
        )
    return figures.Figures(of, tuple(rows))


def _label(name: str, settings: Settings | None) -> str:
    if settings is None:
        return "dense"
    value = f"{getattr(settings, name):g}"
    return f"{value} per side" if name == "grid" else f"ratio {value}"


def _predicted(of: Pass, settings: Settings | None, family: str | None) -> float | None:
    """The speed-up if time went as work does; None where there is no plan for the model."""
    if settings is None or family is None:
        return None
    return plan(of.width, of.height, settings, family, of.hires).unet.times_less
