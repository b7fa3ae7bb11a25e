"""Hardware, versions and clock of a measurement, and what does not fit into its memory."""

from __future__ import annotations

import datetime
import platform
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from todo import SettingsError, __version__
from todo.timing import is_out_of_memory

_Made = TypeVar("_Made")

DTYPES = {"cpu": "float32", "cuda": "float16"}
"""The hosts' defaults by device."""

_PACKAGES = ("torch", "stable-diffusion-sdkit", "diffusers", "transformers", "tomesd", "einops")
_PROCESSORS = Path("/proc/cpuinfo")
_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Environment:
    """Hardware, versions and clock of a measurement.

    Attributes:
        date: ISO 8601, local.
        machine: model of the processor or GPU; '' if unknown.
        system: operating system; '' if unknown.
        device: 'cpu' or 'cuda'.
        threads: torch's threads on the CPU.
        clock: which time was measured, 'processor time' or 'wall time'.
        dtype: of the UNet's weights, such as 'float32'.
        versions: by package; of ToDo with its commit.
    """

    date: str
    machine: str
    system: str
    device: str
    threads: int
    clock: str
    dtype: str
    versions: dict[str, str]

    @property
    def where(self) -> str:
        """Versions and machine, in one line. ToDo's is not known of early speed runs."""
        made_by = f"ToDo {self.versions['todo']} · " if "todo" in self.versions else ""
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        machine = f"{self.machine}, {threads}" if self.device == "cpu" else self.machine
        return f"{made_by}torch {self.versions['torch']} · {machine} · {self.dtype} · {self.clock}"


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
    """The environment of a measurement on this UNet, which sets device and dtype."""
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
        versions={"todo": made_by(), "python": platform.python_version(), **dict(_versions())},
    )


def now(device: torch.device) -> Callable[[], float]:
    """The clock for measurements on a device; it returns seconds."""
    return _clock(device)[1]


def _clock(device: torch.device) -> tuple[str, Callable[[], float]]:
    """The name of a device's clock, and the clock.

    Processor time does not depend on the machine's other load. With several threads it would be their sum, and would
    include the time in which they spin while waiting for each other.
    """
    if device.type == "cpu" and torch.get_num_threads() == 1:
        return "processor time", time.process_time
    return "wall time", time.perf_counter


def made_by() -> str:
    """ToDo's version and, in a clone, its commit, such as '0.3.0 748e79a'; with a '+' if files differ from it."""
    git = ["git", f"--git-dir={_ROOT / '.git'}", f"--work-tree={_ROOT}", "describe"]
    try:
        done = subprocess.run(
            [*git, "--always", "--dirty=+", "--exclude=*"], capture_output=True, encoding="utf-8", check=False
        )
    except FileNotFoundError:
        return __version__
    return f"{__version__} {done.stdout}".strip()


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


def if_it_fits(make: Callable[[], _Made]) -> _Made | None:
    """What `make` returns; None if the memory does not suffice."""
    try:
        return make()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    # Only here, since until the handler ends the error's frames keep their tensors alive.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None
