"""A test extension for a running WebUI. It records the keys in self-attention, and finds hooks that are left.

Link or copy the folder `probe` into the host's `extensions` folder, next to ToDo. Some of its routes change the next
generation, so do not install it in a host that others use.

    GET  /todo-probe/calls   the UNet calls since the last request: latent size, batch, and for each number of queries
                             the numbers of keys in self-attention
    GET  /todo-probe/left    modules of any loaded UNet or ControlNet that have a hook or the patch of ToDo
    POST /todo-probe/fail    makes the UNet call ?at=N of the next generation raise an error
    POST /todo-probe/inner   makes the next generation run another one in its middle, like face detailers
    GET  /todo-probe/log     ToDo's log lines since the last request
    GET  /todo-probe/about   versions of Python, torch and gradio, and the family of the host
    GET  /todo-probe/optimisation   A1111's attention optimisations: the number offered, and the one applied
    POST /todo-probe/seed    ?on=false: a generation no longer begins with a seed for what the host draws without one
    GET  /todo-probe/checkpoints    the titles of all checkpoints, for which ersatzForge's own API fails
    GET  /todo-probe/compiled       how many functions torch.compile has compiled in this process
"""

import gc
import logging
import platform
import sys
from copy import copy
from importlib.util import find_spec

import gradio
import torch
from fastapi import FastAPI
from modules import processing, script_callbacks, scripts, sd_models, shared
from todo_probing import Lines, Watch, in_memory, traces

try:
    from modules import sd_hijack
except ImportError:  # Forge Neo has none
    sd_hijack = None


def unet():
    model = shared.sd_model
    owner = getattr(model, "forge_objects", None)
    return (owner.unet.model if owner else model.model).diffusion_model


probe = Watch()
inner_requested = False
seeds = True


class Script(scripts.Script):
    def title(self):
        return "ToDo probe"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        return []

    def before_process(self, p, *args):
        # Some hosts draw noise without a seed, for the encoder of img2img or for token merging.
        if seeds:
            torch.manual_seed(0)

    def postprocess_image(self, p, pp, *args):
        global inner_requested
        if not inner_requested:
            return
        inner_requested = False
        # Like a face detailer: ends the outer generation with a copy of `p`, and restarts it with another copy later.
        p.scripts.postprocess(copy(p), processing.Processed(p, [], p.seed, ""))
        inner = processing.StableDiffusionProcessingImg2Img(
            init_images=[pp.image],
            prompt="inner",
            seed=1,
            steps=2,
            width=p.width,
            height=p.height,
            denoising_strength=0.5,
            sampler_name=p.sampler_name,
            do_not_save_samples=True,
            do_not_save_grid=True,
        )
        # An empty runner, because reForge does not accept None.
        inner.scripts, inner.script_args = scripts.ScriptRunner(), []
        pp.image = processing.process_images(inner).images[0]
        p.scripts.process(copy(p))


def calls():
    made, probe.calls = probe.calls, []
    probe.detach()
    return made


def left():
    gc.collect()  # the objects of a failed generation may form reference cycles
    loaded = getattr(sd_models.model_data, "loaded_sd_models", [])
    modules = [unet()] + [model.model.diffusion_model for model in loaded if hasattr(model, "model")]
    return traces(modules + in_memory("ControlNet"))


def fail(at: int):
    probe.fail_at = at


def seed(on: bool):
    global seeds
    seeds = on


def inner():
    global inner_requested
    inner_requested = True


lines = Lines()


def log():
    logged, lines.lines = lines.lines, []
    return logged


def about():
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "gradio": gradio.__version__,
        "forge_family": find_spec("modules_forge") is not None,
    }


def optimisation():
    applied = getattr(sd_hijack, "current_optimizer", None)
    return {"offered": len(getattr(sd_hijack, "optimizers", ())), "applied": applied.name if applied else "None"}


def checkpoints():
    return [checkpoint.title for checkpoint in sd_models.checkpoints_list.values()]


def compiled():
    dynamo = sys.modules.get("torch._dynamo")
    return dynamo.utils.counters["frames"]["ok"] if dynamo else 0


def add_routes(demo, app: FastAPI):
    logging.getLogger("todo").addHandler(lines)
    app.get("/todo-probe/log")(log)
    app.get("/todo-probe/about")(about)
    app.get("/todo-probe/optimisation")(optimisation)
    app.get("/todo-probe/checkpoints")(checkpoints)
    app.get("/todo-probe/compiled")(compiled)
    app.get("/todo-probe/calls")(calls)
    app.get("/todo-probe/left")(left)
    app.post("/todo-probe/fail")(fail)
    app.post("/todo-probe/seed")(seed)
    app.post("/todo-probe/inner")(inner)


script_callbacks.on_app_started(add_routes)
script_callbacks.on_cfg_denoiser(lambda _params: probe.attach(unet()))
script_callbacks.on_script_unloaded(probe.detach)
script_callbacks.on_script_unloaded(lambda: logging.getLogger("todo").removeHandler(lines))
