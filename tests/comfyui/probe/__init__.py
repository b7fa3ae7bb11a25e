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
import sys
from collections import Counter
from pathlib import Path
from unittest import mock

import comfy.model_management
import comfy.multigpu
import nodes
import torch
from aiohttp import web
from comfy.patcher_extension import WrappersMP
from server import PromptServer
from torch.utils._python_dispatch import TorchDispatchMode

ROOT = Path(__file__).resolve().parents[3]


def load(name, file):
    spec = importlib.util.spec_from_file_location(name, ROOT / file)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def todo_without_comfy_api():
    """ToDo as an older ComfyUI loads it."""
    name = "comfy_api.latest"
    present = sys.modules.pop(name)
    sys.modules[name] = None
    try:
        return load("todo_in_older_comfyui", "__init__.py")
    finally:
        sys.modules[name] = present


probing = load("todo_probing", "tests/host/probe/todo_probing.py")
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


class Split(OnModel):
    """ComfyUI's split of a run between GPUs, as if the CPU were two of them."""

    def change(self, model):
        two = [torch.device("cpu"), torch.device("cpu", 0)]
        with mock.patch.object(comfy.model_management, "get_all_torch_devices", return_value=two):
            return (comfy.multigpu.create_multigpu_deepclones(model, 2),)


class TiledSampler:
    """Runs a sampler several times in one execution, as nodes do that upscale an image by tiles."""

    CATEGORY = "tests"
    RETURN_TYPES = ("LATENT",)
    FUNCTION = "sample"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {**nodes.KSampler.INPUT_TYPES()["required"], "tiles": ("INT", {"default": 3})}}

    def sample(self, tiles, seed, **inputs):
        return [nodes.KSampler().sample(seed=seed + tile, **inputs) for tile in range(tiles)][-1]


(older,) = todo_without_comfy_api().NODE_CLASS_MAPPINGS.values()

NODE_CLASS_MAPPINGS = {
    "ToDoProbeHidden": Hidden,
    "ToDoProbeReads": Reads,
    "ToDoProbeSplit": Split,
    "ToDoProbeTiledSampler": TiledSampler,
    "ToDoProbeOlder": older,
}
