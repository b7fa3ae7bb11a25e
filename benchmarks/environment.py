"""Where and with what a measurement was made."""

from __future__ import annotations

import datetime
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch
from torch import nn

from todo import SettingsError

_PACKAGES = ("torch", "stable-diffusion-sdkit", "diffusers", "tomesd", "einops")
_PROCESSORS = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Environment:
    """Where and with what was measured. `machine` is the processor's or GPU's model, `system` the operating system;
    both are empty where not known. `clock` says which time was taken."""

    date: str
    machine: str
    system: str
    device: str
    threads: int
    clock: str
    dtype: str
    versions: dict[str, str]


def usable_device(name: str) -> str:
    """A device by its name, 'cpu', 'cuda' or 'auto'.

    Raises:
        SettingsError: torch has no CUDA here.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise SettingsError("device", "device: 'cuda' is not allowed; torch finds no CUDA here")
    return name


def describe(unet: nn.Module) -> Environment:
    """The environment of a UNet."""
    parameter = next(unet.parameters())
    cuda = parameter.device.type == "cuda"
    return Environment(
        date=datetime.date.today().isoformat(),
        machine=torch.cuda.get_device_name(parameter.device) if cuda else _processor(),
        system=platform.platform(),
        device=parameter.device.type,
        threads=torch.get_num_threads(),
        clock=_clock(parameter.device)[0],
        dtype=str(parameter.dtype).removeprefix("torch."),
        versions={"python": platform.python_version(), **dict(_versions())},
    )


def now(device: torch.device) -> Callable[[], float]:
    """What tells the seconds of a measurement on a device."""
    return _clock(device)[1]


def _clock(device: torch.device) -> tuple[str, Callable[[], float]]:
    """A single thread's own time does not depend on what else the machine has to do; several threads wait for each
    other, and their time counts the waiting."""
    if device.type == "cpu" and torch.get_num_threads() == 1:
        return "processor time", time.process_time
    return "wall time", time.perf_counter


def _versions() -> Iterator[tuple[str, str]]:
    for package in _PACKAGES:
        try:
            yield package, metadata.version(package)
        except metadata.PackageNotFoundError:
            continue


def _processor() -> str:
    if _PROCESSORS.exists():
        for line in _PROCESSORS.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
