"""Helpers for tests that run generations on the small model, and the numbers of keys to expect."""

from __future__ import annotations

from typing import Any

from tests.standin import models

from .conftest import keys_seen

FACTOR_2 = {"factor": 2}
SIZE = 16 * 16  # tokens of the finest level at 128 × 128 pixels
KEPT = SIZE // 4
CALLS = 4 * 3  # steps times self-attention blocks of the finest level
HIRES, HIRES_KEPT = 4 * SIZE, SIZE  # at twice the size
FIRST = 4  # steps of the first pass
SECOND = 3  # steps of the hires pass: int(0.7 · 4) + 1


def at_each_step(host, watch):
    """Calls `watch` with the denoiser before each denoiser call, after our own callbacks."""
    host.script_callbacks.on_cfg_denoiser(lambda params: watch(params.denoiser))


def add_script(host, monkeypatch, script, first=False):
    """Adds an always-on script without controls to txt2img, after ours or before it."""
    runner = host.scripts.scripts_txt2img
    added = [script, *runner.alwayson_scripts] if first else [*runner.alwayson_scripts, script]
    script.args_from = script.args_to = 0
    monkeypatch.setattr(runner, "alwayson_scripts", added)


def at_call(host, number, act):
    """Calls `act` before one of the denoiser calls, counted from 1 over all runs."""
    calls = []

    def count(_):
        calls.append(1)
        if len(calls) == number:
            act()

    at_each_step(host, count)


def crash_at(host, monkeypatch, call):
    """Makes the model fail in one of its calls."""
    calls = []

    def failing(x, sigma, text):
        calls.append(1)
        if len(calls) == call:
            raise RuntimeError("out of memory")
        return models.LoadedModel.apply_model(host.model, x, sigma, text)

    monkeypatch.setattr(host.model, "apply_model", failing)


def keys(host, *args: Any, **fields: Any) -> list[int]:
    with keys_seen(host.unet) as seen:
        host.generate(*args, **fields)
    return seen
