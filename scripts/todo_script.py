"""ToDo's always-on script. It only connects the host's events to todo.webui."""

import sys
from typing import Any

# On 'Reload UI' the host reloads this file, but not the packages that it imports. After an update, the new script must
# not run with the old modules.
for _name in [name for name in sys.modules if name.partition(".")[0] == "todo"]:
    del sys.modules[_name]

from modules import script_callbacks, scripts  # noqa: E402

# Not imported lazily: this extension is on the path only while its scripts are loaded.
from todo.webui import api, generation, host, log, ui, xyz  # noqa: E402
from todo.webui.compare import events as compare  # noqa: E402
from todo.webui.measure import call as measured  # noqa: E402


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
    measured.step(denoiser)
    compare.step(denoiser)


log.set_up(host.log_level())
script_callbacks.on_before_ui(xyz.add_axes)
script_callbacks.on_app_started(api.register)
script_callbacks.on_cfg_denoiser(step)
script_callbacks.on_cfg_after_cfg(compare.step_done)
script_callbacks.on_script_unloaded(generation.remove_all)
