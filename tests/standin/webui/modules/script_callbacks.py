"""Callbacks that do not belong to one script. If one raises, the error is reported and the others still run."""

import sys
from dataclasses import dataclass
from typing import Any

from modules import errors

callback_map: dict[str, list[Any]] = {}


class CFGDenoiserParams:
    def __init__(
        self, x, image_cond, sigma, sampling_step, total_sampling_steps, text_cond, text_uncond, denoiser=None
    ):
        self.x = x
        self.image_cond = image_cond
        self.sigma = sigma
        self.sampling_step = sampling_step
        self.total_sampling_steps = total_sampling_steps
        self.text_cond = text_cond
        self.text_uncond = text_uncond
        self.denoiser = denoiser


@dataclass
class ScriptCallback:
    script: str
    callback: Any
    name: str = "unnamed"


def _register(event, callback, name):
    script = sys._getframe(2).f_code.co_filename
    callback_map.setdefault(event, []).append(ScriptCallback(script, callback, name or "unnamed"))


def _fire(event, *args):
    for registered in list(callback_map.get(event, ())):
        try:
            registered.callback(*args)
        except Exception:
            errors.report(f"callback {event} of {registered.script}", exc_info=True)


def clear_callbacks():
    callback_map.clear()


def on_app_started(callback, *, name=None):
    _register("app_started", callback, name)


def on_cfg_denoiser(callback, *, name=None):
    _register("cfg_denoiser", callback, name)


def on_cfg_after_cfg(callback, *, name=None):
    _register("cfg_after_cfg", callback, name)


def on_script_unloaded(callback, *, name=None):
    _register("script_unloaded", callback, name)


def on_before_ui(callback, *, name=None):
    _register("before_ui", callback, name)


def app_started_callback(demo, app):
    _fire("app_started", demo, app)


def cfg_denoiser_callback(params):
    _fire("cfg_denoiser", params)


def cfg_after_cfg_callback(params):
    _fire("cfg_after_cfg", params)


def script_unloaded_callback():
    for registered in reversed(callback_map.get("script_unloaded", ())):
        try:
            registered.callback()
        except Exception:
            errors.report(f"callback script_unloaded of {registered.script}", exc_info=True)


def before_ui_callback():
    for registered in reversed(callback_map.get("before_ui", ())):
        try:
            registered.callback()
        except Exception:
            errors.report(f"callback before_ui of {registered.script}", exc_info=True)
