"""Runs this extension in a minimal WebUI, in this process.

The folder webui/ contains the WebUI. Its `modules` only have the names and signatures that extensions use. They can be
imported inside `running`, which removes them again. The extension is loaded like in the real host: from its file, with
its folder on the path only while it is loaded.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
import torch
from torch import nn

from tests.standin import models

ROOT = Path(__file__).resolve().parents[2]
WEBUI = Path(__file__).with_name("webui")
PLOT_EXTENSION = Path(__file__).with_name("plot_extension")
OURS = "sd_webui_todo"
PACKAGES = ("modules", OURS, "lib_plot")
CHECKPOINT = "small.safetensors"
NAME = "todo"

_small_unets: list[nn.Module] = []


def small_unet() -> nn.Module:
    """ldm's UNet in a small layout, created once."""
    if not _small_unets:
        _small_unets.append(models.small_models.ldm_unet(**models.SMALL))
    return _small_unets[0]


class Records(logging.Handler):
    """Keeps the records that are logged."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def at(self, level: str) -> list[str]:
        return [record.getMessage() for record in self.records if record.levelname == level]


class Outcome:
    """The result of a generation: its `p`, what the host returned, and the generation parameters."""

    def __init__(self, p: Any, processed: Any):
        self.p = p
        self.processed = processed
        self.parameters = dict(p.extra_generation_params)
        self.ours = {key: value for key, value in self.parameters.items() if key.startswith("ToDo")}

    @property
    def latents(self) -> torch.Tensor:
        """The latents of the generated images, without the comparison image."""
        return torch.stack([image.latent for image in self.processed.images if hasattr(image, "latent")])


class Host:
    """The running WebUI. Its modules are available as attributes, such as `host.shared`."""

    def __init__(self, page: Callable[[Host], None], style: str) -> None:
        self.page = page
        self.style = style
        self.log = Records()
        self.demo: Any = None

    def __getattr__(self, name: str) -> Any:
        module = sys.modules.get(f"modules.{name}")
        if module is None:
            raise AttributeError(name)
        return module

    def load(self) -> None:
        """Loads the scripts and builds their page, as at startup and after 'Reload UI'."""
        self.scripts.load_scripts()
        self.script_callbacks.before_ui_callback()
        with gr.Blocks(analytics_enabled=False, title="Stable Diffusion", css=self.style) as self.demo:
            self.page(self)
        logger = logging.getLogger("todo")
        if self.log not in logger.handlers:
            logger.addHandler(self.log)

    def reload(self) -> None:
        """'Reload UI': unloads the scripts and loads them again. Packages and the model stay loaded."""
        self.script_callbacks.script_unloaded_callback()
        self.load()

    def add_checkpoint(self, title: str, factory: Any) -> Any:
        """Adds a checkpoint to the host's list and returns its info."""
        info = self.sd_models.checkpoints_list[title] = self.sd_models.CheckpointInfo(title)
        self.sd_models.factories[title] = factory
        return info

    def use_checkpoint(self, title: str) -> Any:
        """Selects and loads a checkpoint and returns the model."""
        self.shared.opts.sd_model_checkpoint = title
        return self.sd_models.reload_model_weights()

    @property
    def model(self) -> Any:
        return self.sd_models.model_data.sd_model

    @property
    def unet(self) -> nn.Module:
        return models.unet_of(self.model)

    def script(self, tab: str = "txt2img") -> Any:
        runner = getattr(self.scripts, f"scripts_{tab}")
        return next(script for script in runner.alwayson_scripts if script.name == NAME)

    def ours(self, name: str) -> Any:
        """A module of the extension, as currently loaded, such as 'settings' or 'webui.generation'."""
        return sys.modules[f"{OURS}.{name}"]

    @property
    def knobs(self) -> Any:
        """The extension's table of settings, as currently loaded."""
        return self.ours("settings").KNOBS

    @property
    def Settings(self) -> Any:  # noqa: N802
        return self.ours("settings").Settings

    @property
    def SettingsError(self) -> Any:  # noqa: N802
        return self.ours("settings").SettingsError

    @property
    def names(self) -> tuple[str, ...]:
        """What a request holds, in the order of the page's controls."""
        return self.ours("webui.request").NAMES

    def p(self, args: list[Any] | None = None, tab: str = "txt2img", **fields: Any) -> Any:
        """A processing object with the given arguments for our script. Missing ones are taken from the page."""
        kind = {"txt2img": "StableDiffusionProcessingTxt2Img", "img2img": "StableDiffusionProcessingImg2Img"}[tab]
        p = getattr(self.processing, kind)(**{"seed": 11, **fields})
        p.scripts = getattr(self.scripts, f"scripts_{tab}")
        p.script_args = [getattr(control, "value", None) for control in p.scripts.inputs]
        script = self.script(tab)
        for index, value in enumerate((args or [])[: script.args_to - script.args_from]):
            p.script_args[script.args_from + index] = value
        return p

    def run(self, p: Any) -> Outcome:
        """What the tab's button does."""
        self.shared.state.begin()
        tab = "img2img" if isinstance(p, self.processing.StableDiffusionProcessingImg2Img) else "txt2img"
        return Outcome(p, getattr(getattr(self, tab), tab)(p))

    def generate(self, *args: Any, **fields: Any) -> Outcome:
        """Runs a generation. `args` are the arguments for our script: a dict, or values in the order of the page."""
        return self.run(self.p(list(args), **fields))

    def failures(self) -> list[Any]:
        """The exceptions that scripts raised since the last call."""
        records = list(self.errors.exception_records)
        self.errors.exception_records.clear()
        return records


def scripts_only(host: Host) -> None:
    """A page that only has the scripts' controls."""
    for tab, runner in (("txt2img", host.scripts.scripts_txt2img), ("img2img", host.scripts.scripts_img2img)):
        runner.initialize_scripts(tab == "img2img")
        runner.prepare_ui()
        runner.setup_ui()


@contextmanager
def running(
    plot: str | None = "own",
    extension: bool = True,
    page: Callable[[Host], None] = scripts_only,
    style: str = "",
) -> Iterator[Host]:
    """A running host with a small model.

    Args:
        plot: where the host has its X/Y/Z plot: 'own', 'extension' or None.
        extension: whether this extension is installed.
        page: builds the page.
        style: CSS of the page.
    """
    with _no_trace():
        from modules import extensions, scripts  # the host's

        if plot == "extension":
            extensions.extensions.append(extensions.Extension("plot", str(PLOT_EXTENSION)))
        if extension:
            extensions.extensions.append(extensions.Extension("sd-webui-todo", str(ROOT)))
        if plot != "own":
            found = scripts.list_scripts
            scripts.list_scripts = lambda *where: [one for one in found(*where) if one.basedir != str(WEBUI)]
        host = Host(page, style)
        from modules import img2img, processing, sd_models, txt2img  # noqa: F401  # for `host.…`

        host.add_checkpoint(CHECKPOINT, models.shared(models.LoadedModel, small_unet()))
        host.use_checkpoint(CHECKPOINT)
        host.load()
        yield host
        host.script_callbacks.script_unloaded_callback()


@contextmanager
def _no_trace() -> Iterator[None]:
    logger = logging.getLogger("todo")
    as_it_was = logger.handlers[:], logger.propagate, logger.level
    path, modules = sys.path, _take_modules()
    logger.handlers[:] = []
    sys.path = [str(WEBUI), *(entry for entry in path if Path(entry or ".").resolve() != ROOT)]
    try:
        yield
    finally:
        sys.path = path
        _take_modules()
        sys.modules.update(modules)
        logger.handlers[:], logger.propagate = as_it_was[:2]
        logger.setLevel(as_it_was[2])


def _take_modules() -> dict[str, Any]:
    names = [name for name in sys.modules if name.partition(".")[0] in PACKAGES]
    return {name: sys.modules.pop(name) for name in names}
