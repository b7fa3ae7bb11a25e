"""A method: one way of computing a UNet's self-attention, put on a UNet for one run and taken off again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from torch import nn

from todo import Patch, Settings, SettingsError, patched
from todo.settings import KNOBS

DENSE = "dense"

Size = tuple[int, int]
"""A latent's height and width."""

PutOn = Callable[[nn.Module, Size], AbstractContextManager[Patch | None]]
"""Puts a method on a UNet for the length of a `with` block, given the size of the latents that it will see. Yields
ToDo's patch, or None for a method without one."""

PutToDoOn = Callable[[nn.Module, Settings], AbstractContextManager[Patch]]
"""Puts ToDo on a UNet for the length of a `with` block, as `todo.patched` does."""


@dataclass(frozen=True)
class Method:
    """One method under the name that tables, JSON and the option `--compare` use.

    Attributes:
        about: what it does, in one line.
        settings: ToDo's settings for a latent's size; None for the methods of others.
    """

    name: str
    put_on: PutOn
    about: str = ""
    settings: Callable[[Size], Settings] | None = None


def as_it_is(unet: nn.Module, latent: Size) -> AbstractContextManager[None]:
    """Puts nothing on: dense attention."""
    return nullcontext()


def with_todo(settings: Callable[[Size], Settings], put_on: PutToDoOn = patched) -> PutOn:
    """Puts ToDo on, with settings that may depend on the latent's size."""
    return lambda unet, latent: put_on(unet, settings(latent))


def settings_label(settings: Settings) -> str:
    """The settings that act in its mode and differ from the defaults, in short. In manual mode the factor is always
    there, since it tells the mode."""
    values = settings.to_dict()
    acting = [name for name, knob in KNOBS.items() if name != "mode" and knob.mode in (None, settings.mode)]
    shown = [name for name in acting if name == "factor" or values[name] != KNOBS[name].default]
    return ", ".join(f"{name.replace('_', ' ')} {_plain(values[name])}" for name in shown) or "default"


def check_names(names: Iterable[str], known: Collection[str]) -> None:
    """Refuses unknown methods.

    Raises:
        SettingsError: a name is not among the known ones.
    """
    for name in names:
        if name not in known:
            raise SettingsError("compare", f"compare: {name!r} is not allowed; it must be one of {', '.join(known)}")


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
