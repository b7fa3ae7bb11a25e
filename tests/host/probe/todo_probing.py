"""What the probes in a WebUI and in ComfyUI share. It knows no host, and of ToDo only the names of its traces."""

import gc
import logging

import torch


class Watch:
    """Records the calls of the UNets that it is attached to."""

    def __init__(self):
        self.calls = []
        self.handles = {}
        self.fail_at = None
        self.queries = 0

    def attach(self, module):
        if id(module) in self.handles:
            return
        handles = [module.register_forward_pre_hook(self.on_unet, with_kwargs=True)]
        for name, attention in module.named_modules():
            if name.endswith("attn1"):
                handles.append(attention.to_q.register_forward_hook(self.on_queries))
                handles.append(attention.to_k.register_forward_hook(self.on_keys))
        self.handles[id(module)] = handles

    def detach(self):
        for handle in (handle for handles in self.handles.values() for handle in handles):
            handle.remove()
        self.handles.clear()

    def on_unet(self, module, args, kwargs):
        x = args[0] if args else kwargs["x"]
        self.calls.append({"latent": list(x.shape[-2:]), "batch": x.shape[0], "keys": {}})
        if self.fail_at is not None and len(self.calls) == self.fail_at:
            self.fail_at = None
            raise RuntimeError("the probe fails here as requested")

    def on_queries(self, module, args, output):
        self.queries = output.shape[1]

    def on_keys(self, module, args, output):
        keys = self.calls[-1]["keys"].setdefault(str(self.queries), [])
        if output.shape[1] not in keys:
            keys.append(output.shape[1])


def traces(modules):
    """The modules within these that have a hook or the patch of ToDo."""
    found = []
    for root in modules:
        found += ["patch"] * hasattr(root, "_todo_patch")
        for name, module in root.named_modules():
            hooks = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
            found += [name for hook in hooks if "todo" in getattr(hook, "__module__", "").split(".")]
    return found


def in_memory(*names):
    """All modules of classes with these names."""
    return [it for it in gc.get_objects() if isinstance(it, torch.nn.Module) and type(it).__name__ in names]


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


class Lines(logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())
