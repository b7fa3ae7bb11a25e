"""Loads a checkpoint of SD1, SD2 or SDXL: a diffusers folder, a hub id, or a single file."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from todo import SettingsError

_SD, _SDXL = "StableDiffusionPipeline", "StableDiffusionXLPipeline"
"""diffusers' classes for text to image."""

_SINGLE_FILES = (".safetensors", ".ckpt")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_ALLOWED = "a folder or hub id of a diffusers pipeline, or a .safetensors or .ckpt file, of SD1, SD2 or SDXL"


def load(where: str, config: str | None, device: torch.device, dtype: torch.dtype) -> Any:
    """The pipeline for text to image, without safety checker and progress bar.

    Args:
        where: a folder, a hub id, or a single file.
        config: the folder or hub id of a pipeline whose configuration and tokenizer a single file has; None for what
            diffusers gets from the hub for its kind.

    Raises:
        SettingsError: there is no such pipeline, or it cannot be loaded.
    """
    source = Path(where).expanduser()
    is_file = source.suffix in _SINGLE_FILES
    if not (source.is_file() if is_file else source.is_dir() or _HUB_ID.fullmatch(where)):
        raise _error(where, f"it must be {_ALLOWED}")
    if config and not is_file:
        raise SettingsError("config", f"config: {config!r} is not allowed; only a single file needs a configuration")
    from safetensors import SafetensorError

    try:
        pipeline = _from_file(source, config, dtype) if is_file else _from_folder(where, dtype)
    except SettingsError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, UnpicklingError, SafetensorError) as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise _error(where, f"diffusers cannot load it: {reason}") from error
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to(device)
    if dtype is torch.float16 and pipeline.vae.config.force_upcast:
        pipeline.vae.to(torch.float32)  # SDXL's overflows in float16
    return pipeline


def name(where: str) -> str:
    """A checkpoint's name in results: the hub id, or the name of the folder or file, without where it lies."""
    path = Path(where).expanduser()
    return path.resolve().name if path.exists() else where


def _from_folder(where: str, dtype: torch.dtype) -> Any:
    import diffusers

    class_name = diffusers.DiffusionPipeline.load_config(where).get("_class_name")
    if class_name not in (_SD, _SDXL):
        raise _error(where, f"it is a {class_name}, and must be a {_SD} or {_SDXL}")
    return getattr(diffusers, class_name).from_pretrained(where, torch_dtype=dtype, **_extras(class_name))


def _from_file(path: Path, config: str | None, dtype: torch.dtype) -> Any:
    import diffusers

    class_name = _SDXL if any(key.startswith("conditioner.embedders.1.") for key in _keys(path)) else _SD
    given = {"config": config} if config else {}
    pipeline = getattr(diffusers, class_name)
    return pipeline.from_single_file(str(path), torch_dtype=dtype, **given, **_extras(class_name))


def _extras(class_name: str) -> dict[str, Any]:
    """What keeps a pipeline from loading and running parts that play no role here."""
    if class_name == _SDXL:
        return {"add_watermarker": False}
    return {"safety_checker": None, "requires_safety_checker": False}


def _keys(path: Path) -> Collection[str]:
    """The names of a single file's weights."""
    from safetensors import safe_open

    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as weights:
            return list(weights.keys())
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    return list(checkpoint.get("state_dict", checkpoint))


def _error(where: str, reason: str) -> SettingsError:
    return SettingsError("pipeline", f"pipeline: {where!r} is not allowed; {reason}")
