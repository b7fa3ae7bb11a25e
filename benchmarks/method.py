"""A method: one way of computing a UNet's self-attention, applied to a UNet for one run and removed again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from torch import nn

from todo import Patch, Settings, SettingsError, patched
from todo.settings import KNOBS

DENSE = "dense"
NO_EFFECT, OUT_OF_MEMORY = "no effect", "does not fit in memory"

LatentSize = tuple[int, int]
"""Height and width of a latent."""

Apply = Callable[[nn.Module, LatentSize], AbstractContextManager[Patch | None]]
"""Applies a method to a UNet within a `with` block, for latents of the given size. Yields ToDo's patch, or None for
another method."""


class StaleError(Exception):
    """A published result that the present code would not reproduce."""


@dataclass(frozen=True)
class Method:
    """One method.

    Attributes:
        name: its name in tables, JSON and the option `--compare`.
        apply: applies it to a UNet.
        settings: ToDo's settings for a latent size; None for other methods.
    """

    name: str
    apply: Apply
    settings: Callable[[LatentSize], Settings] | None = None


def dense_attention(unet: nn.Module, latent: LatentSize) -> AbstractContextManager[None]:
    """Leaves the UNet as it is."""
    return nullcontext()


def with_todo(settings: Callable[[LatentSize], Settings]) -> Apply:
    """Applies ToDo, with settings that may depend on the latent's size."""
    return lambda unet, latent: patched(unet, settings(latent))


def settings_label(settings: Settings) -> str:
    """A short label: the mode's main knob, and the settings that act in the mode and differ from their defaults."""
    values = settings.to_dict()
    acting = [name for name, knob in KNOBS.items() if name != "mode" and knob.mode in (None, settings.mode)]
    shown = [name for name in acting if name in ("grid", "factor") or values[name] != KNOBS[name].default]
    return ", ".join(f"{name.replace('_', ' ')} {_plain(values[name])}" for name in shown)


def check_names(names: Iterable[str], known: Collection[str]) -> None:
    """Checks the names of methods.

    Raises:
        SettingsError: a name is unknown.
    """
    for name in names:
        if name not in known:
            raise SettingsError("compare", f"compare: {name!r} is not allowed; it must be one of {', '.join(known)}")


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
