"""A second implementation of ToDo by other means: it replaces `forward` on the projections and slices their inputs.

Tests require that an image with ToDo equals one with this reference, whatever other extensions are active.

    POST /todo-probe/reference?factor=2   the finest self-attention of the UNet and of all ControlNets computes keys and
                                          values from every second row and column; with deep=true, so do all other
                                          levels outside the middle block; factor 1 turns it off
"""

import gc

import torch
from fastapi import FastAPI
from modules import script_callbacks, shared


def networks():
    """The UNet in use and every ControlNet in memory."""
    model = shared.sd_model
    owner = getattr(model, "forge_objects", None)
    yield (owner.unet.model if owner else model.model).diffusion_model
    for candidate in gc.get_objects():
        if type(candidate).__name__ == "ControlNet" and isinstance(candidate, torch.nn.Module):
            yield candidate


def reached(network, deep):
    """The self-attention modules outside the middle block, with their transformers.

    If not `deep`, only those with the fewest channels, which are at the finest level.
    """
    found = []
    for name, module in network.named_modules():
        for block in getattr(module, "transformer_blocks", []):
            if hasattr(getattr(block, "attn1", None), "to_k") and not name.startswith("middle_block"):
                found.append((module, block.attn1))
    channels = min((attention.to_k.weight.shape[1] for _, attention in found), default=0)
    return [(transformer, attn) for transformer, attn in found if deep or attn.to_k.weight.shape[1] == channels]


def adds_to_each_token(attention):
    """Whether the extension for A1111 has applied ControlNet-LLLite to the projections. It needs every token."""
    return any(getattr(projection, "lllite_list", None) for projection in (attention.to_k, attention.to_v))


class Slicer:
    """The reference on the projections of one attention module."""

    def __init__(self, transformer, attention, factor):
        self.factor = factor
        self.size = None
        self.batch = None
        self.cut = False
        self.replaced = []
        self.replace(transformer, self.around_transformer)
        self.replace(attention.to_q, self.around_query)
        self.replace(attention.to_k, self.around_key)
        self.replace(attention.to_v, self.around_value)

    def replace(self, module, around):
        inner = module.forward
        had = module.__dict__.get("forward")
        module.forward = lambda *args, **kwargs: around(inner, *args, **kwargs)
        self.replaced.append((module, had))

    def restore(self):
        for module, had in reversed(self.replaced):
            if had is None:
                del module.forward
            else:
                module.forward = had

    def around_transformer(self, inner, features, *args, **kwargs):
        self.size = features.shape[2:]
        return inner(features, *args, **kwargs)

    def around_query(self, inner, tokens):
        self.batch, self.cut = len(tokens), False
        return inner(tokens)

    def around_key(self, inner, tokens):
        height, width = self.size
        self.cut = len(tokens) == self.batch and tokens.shape[1] % (height * width) == 0
        return inner(self.slice(tokens) if self.cut else tokens)

    def around_value(self, inner, tokens):
        cut, self.cut = self.cut, False
        return inner(self.slice(tokens) if cut else tokens)

    def slice(self, tokens):
        height, width = self.size
        grids = tokens.reshape(len(tokens), -1, height, width, tokens.shape[-1])
        return grids[:, :, :: self.factor, :: self.factor].reshape(len(tokens), -1, tokens.shape[-1])


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
