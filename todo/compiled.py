"""What torch.compile has compiled, and that it notices hooks."""

from __future__ import annotations

import sys
from typing import Any

from torch import nn

_IGNORES_HOOKS = "skip_nnmodule_hook_guards"


def is_compiled(network: nn.Module) -> bool:
    """Whether a network or part of it is under torch.compile: wrapped, compiled in place, by a compiled forward, or by
    a wrapper that is in place only during the call, as in Forge Neo, and has compiled the network's forward before."""
    if "torch._dynamo" not in sys.modules:
        return False  # importing the compiler takes a second
    return _has_compiled_code(network) or any(
        getattr(module, "_orig_mod", None) is not None
        or getattr(module, "_compiled_call_impl", None) is not None
        or hasattr(module.forward, "_torchdynamo_orig_callable")
        for module in network.modules()
    )


def has_compiled() -> bool:
    """Whether torch.compile has compiled anything in this process."""
    dynamo: Any = sys.modules.get("torch._dynamo")
    return dynamo is not None and bool(dynamo.utils.counters["frames"])


def heed_hooks() -> None:
    """Makes compiled code depend on which modules have hooks, from now on in this process. What was compiled before,
    which may run without the hooks that came later, is compiled anew.

    Source: PyTorch, torch/_dynamo/config.py and torch/utils/_config_module.py.
    """
    dynamo: Any = sys.modules.get("torch._dynamo")
    config = getattr(dynamo, "config", None)
    if getattr(config, _IGNORES_HOOKS, False):
        setattr(config, _IGNORES_HOOKS, False)
        option: Any = getattr(config, "_config", {}).get(_IGNORES_HOOKS)
        if hasattr(option, "default"):
            option.default = False  # newer versions keep what is set for each thread
        dynamo.reset()


def _has_compiled_code(network: nn.Module) -> bool:
    dynamo: Any = sys.modules["torch._dynamo"]
    entries = getattr(dynamo.eval_frame, "_debug_get_cache_entry_list", None)
    code = getattr(type(network).forward, "__code__", None)
    return bool(entries and code and entries(code))
