"""The methods whose speed is measured: ToDo, what one would use instead, and the limit of all."""

from __future__ import annotations

import math
from collections.abc import Callable

from benchmarks import peers
from benchmarks.method import DENSE, Method, Size, as_it_is, settings_label, with_todo
from todo import Patch, Settings
from todo.settings import KNOBS

TODO, LIMIT = "ToDo", "limit"

GRID_32 = "ToDo grid 32"
"""At most 32 keys/values per side at the finest level, half as many from level to level."""

GRID_16 = "ToDo grid 16"

_TRAINED_SIDE = 64
"""Latent positions per side that SD1.5 was trained on. The authors' factor keeps as many keys/values."""

_STEPS = 1000
"""Single calls are timed as if they belonged to a run of so many steps. All rounds then lie at the beginning of the
settings' step window, where the plan looks, while the phase turns from round to round."""


def todo_with(settings: Settings) -> Method:
    """ToDo with the same settings at every size, named by those that differ from the defaults."""
    label = settings_label(settings)
    return _todo(TODO if label == "default" else f"{TODO} {label}", f"ToDo, settings: {label}", lambda latent: settings)


def _todo(name: str, about: str, settings: Callable[[Size], Settings]) -> Method:
    return Method(name, with_todo(settings), about, settings)


def paper_settings(latent: Size) -> Settings:
    """The authors' factors, 2 for 1024², 3 for 1536² and 4 for 2048², and so on in proportion to the longer side, at
    the finest level, the same tokens at every step.

    Source: the authors' demonstration for SD1.5; the paper's section 3 has the method.
    """
    factor = max(latent) / _TRAINED_SIDE
    highest = KNOBS["factor"].maximum
    return Settings(mode="manual", factor=min(max(factor, 1.0), highest), phase="fixed")


def set_step(patch: Patch | None, number: int = 0) -> None:
    """Puts a patch, if there is one, at the beginning of its step window for a single call, `number` steps on."""
    if patch:
        patch.at(math.ceil(patch.settings.start * _STEPS) + number, _STEPS)


_METHODS = (
    Method(DENSE, as_it_is, "the UNet as it is"),
    todo_with(Settings()),
    todo_with(Settings(grid=32)),
    todo_with(Settings(grid=16)),
    _todo("ToDo paper", "ToDo with the authors' factor: longer side / 512", paper_settings),
    Method(
        "reference",
        lambda unet, latent: peers.reference(unet, paper_settings(latent).factor),
        "the authors' factor by permute, interpolate and permute, for keys and for values",
    ),
    Method(
        "tomesd 0.5",
        lambda unet, latent: peers.token_merging(unet, 0.5),
        "token merging by the package tomesd, ratio 0.5",
    ),
    Method(
        "tomesd 0.75",
        lambda unet, latent: peers.token_merging(unet, 0.75),
        "token merging by the package tomesd, ratio 0.75",
    ),
    Method("HyperTile", peers.hypertile, "attention within tiles of 256 pixels, HyperTile's default"),
    Method(
        LIMIT,
        lambda unet, latent: peers.one_key(unet),
        "one key/value token in every self-attention outside the middle block",
    ),
)

METHODS = {method.name: method for method in _METHODS}
"""Every method by name, except those made from settings on the command line."""

CLOSE = (GRID_32, GRID_16, LIMIT)
"""The methods close to the limit, and the limit itself."""
