"""What the page's buttons do: a measurement from the announcement to the HTML, which can be stopped meanwhile."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ...report import why_none
from ...settings import Settings, SettingsError
from ...unet import UnsupportedModelError
from .. import host, runs, variants
from ..log import logger
from ..passes import Pass, passes_on_page
from ..request import message_for_page, page_settings
from . import result
from .call import CompiledError, Measurement, StoppedError
from .remembered import full_strength, remember
from .rounds import Timed

STOPPED = "Measurement stopped"

_pending: dict[str, threading.Event] = {}
"""An event for each measurement that is announced, waiting or running, by its token. Setting it stops it."""


def announce() -> str:
    """Makes it possible to stop a measurement that is about to begin. Returns the token to begin and stop it with."""
    token = uuid.uuid4().hex
    _pending[token] = threading.Event()
    return token


def stop(token: str) -> None:
    """Stops a measurement, even one that waits in the queue. Those of other pages go on."""
    if token in _pending:
        _pending[token].set()


def measure(sizes: str, values: Sequence[Any], progress: Callable[..., Any], token: str = "") -> str:
    """Measures the page's settings at the page's image sizes. The action of the button.

    Args:
        sizes: JSON with the image sizes, as in `passes_on_page`.
        values: the values of the page's controls.
        progress: called with the fraction that is done, 0 to 1, and `desc`, a description for the progress bar.
        token: that of the announcement; '' if there was none.

    Returns:
        HTML: a line and a plot for each pass, or an error message.
    """
    with _stoppable(token or announce()) as stopped:
        try:
            settings = page_settings(values)
            passes = list(passes_on_page(sizes))
            tried = {each: _to_try(settings, each) for each in passes}
            idle = {each: variants.why_idle(full_strength(settings), each) for each in passes}
            measured: dict[Pass, result.Figures] = {}
            if any(tried.values()):
                progress(0.0, desc="waiting in the queue")
                measured = runs.in_turn(lambda: _measure_each(tried, settings, stopped, progress))
            for figures in measured.values():
                logger.info(result.line(figures))
            return "".join(
                result.page(measured[each]) if each in measured else result.of_pass(each, [idle[each]])
                for each in passes
            )
        except StoppedError:
            return result.message(STOPPED)
        except SettingsError as error:
            return result.message(message_for_page(error))
        except CompiledError as error:
            return result.message(f"Not measured: {error}")
        except UnsupportedModelError as error:
            logger.debug("%s", error)
            return result.message(*host.without_family(host.loaded_model()))
        except Exception as error:
            logger.exception("Measuring failed")
            return result.message(f"Measuring failed: {type(error).__name__}: {error}")


@contextmanager
def _stoppable(token: str) -> Iterator[threading.Event]:
    try:
        yield _pending.setdefault(token, threading.Event())
    finally:
        _pending.pop(token, None)


def _to_try(settings: Settings, current: Pass) -> list[Settings]:
    """The settings on the page, weaker and stronger ones: those that have an effect in a pass."""
    chosen = full_strength(settings)
    return variants.acting(variants.around(chosen, variants.strength_knob(settings, current.hires)), [current], chosen)


def _measure_each(
    tried: dict[Pass, list[Settings]], chosen: Settings, stopped: threading.Event, progress: Callable[..., Any]
) -> dict[Pass, result.Figures]:
    passes = [each for each in tried if tried[each]]
    results = {}
    with runs.random_state_of(runs.random_state()), runs.last_prompt_kept(), runs.negative_prompt_in_every_step():
        for index, current in enumerate(passes):

            def on_progress(done: float, current: Pass = current, index: int = index) -> None:
                if stopped.is_set() or host.ended():
                    raise StoppedError
                progress((index + done) / len(passes), desc=f"{current.width}×{current.height}")

            on_progress(0.0)
            measurement = Measurement(current, [None, *tried[current]], on_progress)
            measurement.run()
            results[current] = _figures(current, measurement, full_strength(chosen))
    return results


def _figures(current: Pass, measurement: Measurement, chosen: Settings) -> result.Figures:
    """The results per sampling step, and what is remembered of them."""
    name, family = variants.strength_knob(chosen, current.hires), host.family(host.loaded_model())
    dense, *others = measurement.timed
    rows = [result.Row(("dense",), _per_step(dense, measurement), None, None, dense.peak, chosen=False)]
    idle = variants.why_idle(chosen, current)
    for timed in others:
        settings = timed.settings
        assert settings  # only the first is dense
        if reason := _no_effect(timed):
            idle = (f"no effect {reason}",) if settings == chosen else idle
            continue
        speed_up, seconds = timed.speed_up(dense), _per_step(timed, measurement)
        if speed_up:
            # So that times, ratio and the lengths of the bars agree.
            seconds = rows[0].seconds and rows[0].seconds / speed_up.median
            if speed_up.is_steady:
                remember(current, settings, speed_up.median)
        predicted = current.plan(settings, family).unet.times_less if family else None
        label = variants.label(name, settings)
        rows.append(result.Row(label, seconds, speed_up, predicted, timed.peak, chosen=settings == chosen))
    return result.Figures(current, tuple(rows), idle)


def _per_step(timed: Timed, measurement: Measurement) -> float | None:
    return timed.seconds and timed.seconds * measurement.calls_per_step


def _no_effect(timed: Timed) -> str:
    """Why a call with ToDo had no effect; '' if it had one, or ran out of memory."""
    return why_none(timed.report, timed.settings) if timed.settings and timed.rounds else ""
