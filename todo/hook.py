"""Hooks that know when they are traced, computed again or copied."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Grid = tuple[int, int]

ATTRIBUTE = "_todo_patch"
"""The attribute of a network that holds its patch. In a copy it is None."""

_is_compiling: Callable[[], bool] = getattr(getattr(torch, "compiler", None), "is_compiling", lambda: False)


class Hook:
    """A forward pre-hook as an object, which does its work in `run`.

    torch.compile does not trace it: its counts would force a recompilation at every step. And it stays behind when its
    module is copied or pickled, so that the copy is a plain one.
    """

    def __init__(self) -> None:
        dynamo: Any = sys.modules.get("torch._dynamo")
        self._untraced: Callable[..., Any] = dynamo.disable(self.run_within_trace) if dynamo else self.run_within_trace

    def __call__(self, *args: Any) -> Any:
        if _is_compiling():
            return self._untraced(*args)
        return self.run(*args)

    def run(self, *args: Any) -> Any:
        raise NotImplementedError

    def run_within_trace(self, *args: Any) -> Any:
        """The same while the code around it is being compiled."""
        return self.run(*args)

    def __deepcopy__(self, memo: Any) -> Callable[..., None]:
        return _stayed_behind

    def __reduce__(self) -> Any:
        return _placeholder, ()


def _placeholder() -> Callable[..., None]:
    return _stayed_behind


def _stayed_behind(module: nn.Module, *_: Any) -> None:
    """Stands in a copied module where the original has a hook, and removes what was copied at the copy's first call."""
    if vars(module).get(ATTRIBUTE, module) is None:
        delattr(module, ATTRIBUTE)
    for number, hook in list(module._forward_pre_hooks.items()):
        if hook is _stayed_behind:
            del module._forward_pre_hooks[number]
            module._forward_pre_hooks_with_kwargs.pop(number, None)


class Gradients(threading.local):
    """Whether the thread's present call of the network may be computed again in a backward pass. Checkpointing hides it
    from the modules within: some kinds compute the forward without gradients."""

    are_expected = False

    def expect(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Finds it out from the network's inputs."""
        self.are_expected = torch.is_grad_enabled() or (
            not torch.is_inference_mode_enabled()
            and any(isinstance(each, Tensor) and each.requires_grad for each in (*args, *kwargs.values()))
        )
        return self.are_expected


def is_in_backward() -> bool:
    """Whether a call is computed again within a backward pass, as gradient checkpointing does it."""
    return torch.is_grad_enabled() and torch._C._current_graph_task_id() != -1


def feature_grid(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Grid | None:
    """The size (h, w) of the feature map or latent that a module is called with; None if there is none."""
    features = args[0] if args else kwargs.get("hidden_states", kwargs.get("x", kwargs.get("sample")))
    shape = features.shape if isinstance(features, Tensor) else ()
    return (shape[2], shape[3]) if len(shape) == 4 else None
