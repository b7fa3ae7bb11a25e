"""What torch.compile needs to know of hooks."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import torch

_Function = TypeVar("_Function", bound=Callable[..., Any])

_IGNORES_HOOKS = "skip_nnmodule_hook_guards"

is_compiling: Callable[[], bool] = getattr(getattr(torch, "compiler", None), "is_compiling", lambda: False)
"""Whether the code around it is being compiled. torch 2.0 compiles no hooks."""


_TRACES_HOOKS = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 13)
"""Whether this torch compiles hooks as part of a graph; earlier ones were not tried, or fail."""


class PerThread(threading.local):
    """An object for each thread, as `own`. Compiled code reads a thread-local attribute rightly, but writes it wrongly:
    so this one is never written, but the object is.

    Args:
        make: makes the object.
    """

    def __init__(self, make: Callable[[], Any]):
        self.own = make()


def constant(function: _Function) -> _Function:
    """Marks a function of plain values that compiled code need not call again.

    The compiler's own decorator would import the compiler, which takes a second. Source: PyTorch,
    torch/_dynamo/decorators.py, assume_constant_result.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


def traceable(function: _Function) -> _Function:
    """A hook's function, which torch.compile traces. Before torch 2.13 it is one at which a graph breaks."""
    if _TRACES_HOOKS or not hasattr(torch, "compiler"):
        return function
    disabled: _Function = importlib.import_module("torch._dynamo").disable(function)
    return disabled


def depend_on_hooks() -> None:
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
