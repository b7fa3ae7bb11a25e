"""A custom node for a running ComfyUI that the tests ask. Link this folder into `custom_nodes` as `todo-probe`, next to
ToDo. Some of its routes change the next image, so do not install it in a ComfyUI that others use.

    GET  /todo-probe/calls       the UNet calls since the last request, as in a WebUI's probe
    GET  /todo-probe/left        modules of any UNet or ControlNet in memory that have a hook or the patch of ToDo
    GET  /todo-probe/log         ToDo's log lines since the last request
    GET  /todo-probe/read        how often a tensor's value was read, by operation, in runs of a model with the node
                                 ToDoProbeReads, since the last request: on a GPU, each one waits for it
    POST /todo-probe/fail        makes the UNet call ?at=N fail
    POST /todo-probe/reference   with ?factor=2, the finest self-attention of all UNets and ControlNets in memory
                                 computes keys and values from every second row and column; with deep, so do all other
                                 levels outside the middle block; factor 1 turns it off
"""

import gc
import importlib.util
import logging
from collections import Counter
from pathlib import Path

import torch
from aiohttp import web
from comfy.patcher_extension import WrappersMP
from server import PromptServer
from torch.utils._python_dispatch import TorchDispatchMode

_SHARED = Path(__file__).resolve().parents[2] / "host" / "probe" / "todo_probing.py"
_spec = importlib.util.spec_from_file_location("todo_probing", _SHARED)
probing = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(probing)

watch = probing.Watch()
lines = probing.Lines()
logging.getLogger("todo").addHandler(lines)
slicers = []
reads = Counter()
routes = PromptServer.instance.routes


def unets():
    return probing.in_memory("UNetModel")


def attach():
    for unet in unets():
        watch.attach(unet)


@routes.get("/todo-probe/calls")
async def calls(request):
    """Also begins to watch the UNets that are in memory by now."""
    made, watch.calls = watch.calls, []
    watch.detach()
    attach()
    return web.json_response(made)


@routes.get("/todo-probe/left")
async def left(request):
    gc.collect()
    return web.json_response(probing.traces(unets() + probing.in_memory("ControlNet")))


@routes.get("/todo-probe/log")
async def log(request):
    logged, lines.lines = lines.lines, []
    return web.json_response(logged)


@routes.get("/todo-probe/read")
async def read(request):
    counted = dict(reads)
    reads.clear()
    return web.json_response(counted)


@routes.post("/todo-probe/fail")
async def fail(request):
    watch.fail_at = int(request.query["at"])
    return web.json_response(None)


@routes.post("/todo-probe/reference")
async def reference(request):
    factor, deep = int(request.query["factor"]), "deep" in request.query
    while slicers:
        slicers.pop().restore()
    for network in unets() + probing.in_memory("ControlNet") if factor > 1 else ():
        slicers.extend(probing.Slicer(*found, factor) for found in probing.reached(network, deep))
    return web.json_response(None)


class OnModel:
    """A node: a model in, a changed clone of it out."""

    CATEGORY = "tests"
    RETURN_TYPES = ("MODEL",)
    FUNCTION = "change"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802, ComfyUI's name
        return {"required": {"model": ("MODEL",)}}


class Hidden(OnModel):
    """The model's UNet within a module that ToDo finds nothing in."""

    def change(self, model):
        clone = model.clone()
        clone.add_object_patch("diffusion_model", Shell(model.get_model_object("diffusion_model")))
        return (clone,)


class Shell(torch.nn.Module):
    def __init__(self, unet):
        super().__init__()
        self.unet = [unet]  # a list hides it from torch
        self.dtype = unet.dtype

    def forward(self, *args, **kwargs):
        return self.unet[0](*args, **kwargs)


class Reads(OnModel):
    """Counts the operations that read a tensor's value while the model samples."""

    def change(self, model):
        def sampled(executor, *args, **kwargs):
            with Counting():
                return executor(*args, **kwargs)

        clone = model.clone()
        clone.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "todo-probe", sampled)
        return (clone,)


class Counting(TorchDispatchMode):
    READING = ("item", "_local_scalar_dense", "is_nonzero", "nonzero", "equal")
    """What PyTorch calls depends on whether it is in inference mode."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name in self.READING:
            reads[name] += 1
        return function(*args, **(kwargs or {}))


NODE_CLASS_MAPPINGS = {"ToDoProbeHidden": Hidden, "ToDoProbeReads": Reads}
