"""ToDo's always-on script. It only connects the host's events to todo.webui."""

import sys
from importlib import import_module, util
from pathlib import Path
from typing import Any

from modules import script_callbacks, scripts

PACKAGE = "sd_webui_todo"
"""The package `todo` beside this folder has this name here, so that no other package of its name is touched."""

# On 'Reload UI' the host reloads this file, but not what it imports. After an update, the new script must not run with
# the old modules.
for _name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
    del sys.modules[_name]
_spec = util.spec_from_file_location(PACKAGE, Path(__file__).resolve().parents[1] / "todo" / "__init__.py")
assert _spec
assert _spec.loader
sys.modules[PACKAGE] = util.module_from_spec(_spec)
_spec.loader.exec_module(sys.modules[PACKAGE])

api, compare, generation, host, log, measure, ui, xyz = (
    import_module(f"{PACKAGE}.webui.{name}")
    for name in ("api", "compare.events", "generation", "host", "log", "measure.call", "ui", "xyz")
)


class ToDo(scripts.Script):
    """The host creates one for each tab and calls its methods as events."""

    def title(self) -> str:
        return "ToDo"

    def show(self, is_img2img: bool) -> Any:
        return scripts.AlwaysVisible

    def ui(self, is_img2img: bool) -> list[Any]:
        page = ui.build(self.elem_id, "img2img" if is_img2img else "txt2img")
        self.infotext_fields = page.infotext_fields
        self.paste_field_names = page.paste_field_names
        return page.controls

    def before_process(self, p: Any, *args: Any) -> None:
        generation.prepare(p, args)
        compare.prepare(p, self.args_from)

    def process(self, p: Any, *args: Any) -> None:
        generation.begin(p, args)

    def process_batch(self, p: Any, *args: Any, **kwargs: Any) -> None:
        compare.begin_batch(p, kwargs["batch_number"])

    def postprocess_batch(self, p: Any, *args: Any, **kwargs: Any) -> None:
        compare.end_batch(p)
        generation.note_effect(p)

    def postprocess(self, p: Any, processed: Any, *args: Any) -> None:
        generation.finish(p, processed)


def step(params: Any) -> None:
    """Before each denoiser call."""
    denoiser = host.denoiser(params)
    generation.step(denoiser)
    measure.step(denoiser)
    compare.step(denoiser)


log.set_up(host.log_level())
script_callbacks.on_before_ui(xyz.add_axes)
script_callbacks.on_app_started(api.register)
script_callbacks.on_cfg_denoiser(step)
script_callbacks.on_cfg_after_cfg(compare.step_done)
script_callbacks.on_script_unloaded(generation.remove_all)
