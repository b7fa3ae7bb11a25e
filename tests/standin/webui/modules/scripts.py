"""Finding, loading and showing scripts, and calling their events during a generation."""

import inspect
import re
import sys
from collections import namedtuple
from pathlib import Path

import gradio as gr

from modules import errors, paths, script_callbacks, script_loading

AlwaysVisible = object()

ScriptFile = namedtuple("ScriptFile", ["basedir", "filename", "path"])
ScriptClassData = namedtuple("ScriptClassData", ["script_class", "path", "basedir", "module"])

scripts_data = []
scripts_txt2img = None
scripts_img2img = None


class PostprocessImageArgs:
    def __init__(self, image):
        self.image = image


class Script:
    name = None
    filename = None
    args_from = None
    args_to = None
    alwayson = False
    is_txt2img = False
    is_img2img = False
    tabname = None
    infotext_fields = None
    paste_field_names = None
    controls = None

    def title(self):
        raise NotImplementedError

    def ui(self, is_img2img):
        pass

    def show(self, is_img2img):
        return True

    def run(self, p, *args):
        pass

    def before_process(self, p, *args):
        pass

    def process(self, p, *args):
        pass

    def process_batch(self, p, *args, **kwargs):
        pass

    def process_before_every_sampling(self, p, *args, **kwargs):
        pass

    def before_hr(self, p, *args):
        pass

    def postprocess_batch(self, p, *args, **kwargs):
        pass

    def postprocess_image(self, p, pp, *args):
        pass

    def postprocess(self, p, processed, *args):
        pass

    def elem_id(self, item_id):
        both = self.show(True) == self.show(False)
        tab = f"{'img2img' if self.is_img2img else 'txt2img'}_" if both else ""
        title = re.sub("[^a-z0-9_]", "", self.title().lower().replace(" ", "_"))
        return f"script_{tab}{title}_{item_id}"


def list_scripts(scriptdirname, extension, *, include_extensions=True):
    from modules import extensions

    own = sorted((Path(paths.script_path) / scriptdirname).glob(f"*{extension}"))
    found = [ScriptFile(paths.script_path, file.name, str(file)) for file in own]
    for one in extensions.active() if include_extensions else ():
        found += one.list_files(scriptdirname, extension)
    return found


def load_scripts():
    global scripts_txt2img, scripts_img2img
    scripts_data.clear()
    script_callbacks.clear_callbacks()
    for file in list_scripts("scripts", ".py"):
        before = sys.path
        # An extension's folder is on the path only while its scripts are loaded.
        sys.path = [file.basedir, *sys.path]
        try:
            module = script_loading.load_module(file.path)
        except Exception:
            errors.report(f"cannot load {file.filename}", exc_info=True)
        else:
            classes = [value for value in vars(module).values() if inspect.isclass(value)]
            for script_class in classes:
                if issubclass(script_class, Script):
                    scripts_data.append(ScriptClassData(script_class, file.path, file.basedir, module))
        finally:
            sys.path = before
    scripts_txt2img, scripts_img2img = ScriptRunner(), ScriptRunner()


class ScriptRunner:
    """The scripts of one tab. `inputs` are the controls of all scripts, one script after the other."""

    def __init__(self):
        self.scripts = []
        self.alwayson_scripts = []
        self.selectable_scripts = []
        self.infotext_fields = []
        self.paste_field_names = []
        self.inputs = [None]

    def initialize_scripts(self, is_img2img):
        for found in (self.scripts, self.alwayson_scripts, self.selectable_scripts):
            found.clear()
        for data in scripts_data:
            script = data.script_class()
            script.filename = data.path
            script.is_txt2img, script.is_img2img = not is_img2img, is_img2img
            script.tabname = "img2img" if is_img2img else "txt2img"
            shown = script.show(is_img2img)
            if not shown:
                continue
            script.alwayson = shown == AlwaysVisible
            self.scripts.append(script)
            (self.alwayson_scripts if script.alwayson else self.selectable_scripts).append(script)

    def prepare_ui(self):
        self.inputs = [None]

    def setup_ui(self):
        for script in self.alwayson_scripts:
            with gr.Group():
                self.create_script_ui(script)

    def create_script_ui(self, script):
        script.name = script.title().lower()
        script.args_from = script.args_to = len(self.inputs)
        try:
            controls = script.ui(script.is_img2img)
        except Exception:
            errors.report(f"no page for {script.name}", exc_info=True)
            return
        script.controls = controls
        if controls is None:
            return
        self.infotext_fields += script.infotext_fields or []
        self.paste_field_names += script.paste_field_names or []
        self.inputs += controls
        script.args_to = len(self.inputs)

    def run(self, p, *args):
        """The selectable script that the first argument chooses, if it chooses one. The images are what it returns."""
        return self.selectable_scripts[args[0] - 1].run(p) if args[0] else None

    def before_process(self, p):
        self._tell("before_process", p)

    def process(self, p):
        self._tell("process", p)

    def process_batch(self, p, **kwargs):
        self._tell("process_batch", p, **kwargs)

    def process_before_every_sampling(self, p, **kwargs):
        self._tell("process_before_every_sampling", p, **kwargs)

    def before_hr(self, p):
        self._tell("before_hr", p)

    def postprocess_batch(self, p, images, **kwargs):
        self._tell("postprocess_batch", p, images=images, **kwargs)

    def postprocess_image(self, p, pp):
        self._tell("postprocess_image", p, pp)

    def postprocess(self, p, processed):
        self._tell("postprocess", p, processed)

    def _tell(self, event, p, *given, **kwargs):
        for script in self.alwayson_scripts:
            arguments = p.script_args[script.args_from : script.args_to]
            try:
                getattr(script, event)(p, *given, *arguments, **kwargs)
            except Exception:
                errors.report(f"{event} of {script.filename}", exc_info=True)
