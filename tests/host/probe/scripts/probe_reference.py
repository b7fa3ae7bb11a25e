"""A second implementation of ToDo by other means: it replaces `forward` on the projections and slices their inputs.

Tests require that an image with ToDo equals one with this reference, whatever other extensions are active.

    POST /todo-probe/reference?factor=2   the finest self-attention of the UNet and of all ControlNets computes keys and
                                          values from every second row and column; with deep=true, so do all other
                                          levels outside the middle block; factor 1 turns it off
"""

from fastapi import FastAPI
from modules import script_callbacks, shared
from todo_probing import Slicer, in_memory, reached


def networks():
    """The UNet in use and every ControlNet in memory."""
    model = shared.sd_model
    owner = getattr(model, "forge_objects", None)
    yield (owner.unet.model if owner else model.model).diffusion_model
    yield from in_memory("ControlNet")


def adds_to_each_token(attention):
    """Whether the extension for A1111 has applied ControlNet-LLLite to the projections. It needs every token."""
    return any(getattr(projection, "lllite_list", None) for projection in (attention.to_k, attention.to_v))


class Reference:
    def __init__(self):
        self.factor, self.deep = 1, False
        self.slicers = {}

    def attach(self):
        if self.factor == 1:
            return
        for network in networks():
            for transformer, attention in reached(network, self.deep):
                if attention not in self.slicers and not adds_to_each_token(attention):
                    self.slicers[attention] = Slicer(transformer, attention, self.factor)

    def set(self, factor: int, deep: bool = False):
        for slicer in reversed(self.slicers.values()):
            slicer.restore()
        self.slicers.clear()
        self.factor, self.deep = factor, deep


reference = Reference()


def add_route(demo, app: FastAPI):
    app.post("/todo-probe/reference")(reference.set)


script_callbacks.on_app_started(add_route)
script_callbacks.on_cfg_denoiser(lambda _params: reference.attach())
script_callbacks.on_script_unloaded(lambda: reference.set(1))
