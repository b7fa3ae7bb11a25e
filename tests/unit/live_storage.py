"""Counts the memory that operations allocate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode


class LiveStorage(TorchDispatchMode):
    """Adds up, after each operation, the tensor storage that was allocated within a `with` block and is still held.

    Views and results of in-place operations add nothing, since they share storage. Not counted is what an operation
    allocates and frees internally.

    Attributes:
        peak: the most bytes held at once.
        allocated: the bytes of each storage, in order of allocation.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self.allocated: list[int] = []
        self._held: dict[StorageWeakRef, int] = {}

    def __torch_dispatch__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self._held = {storage: size for storage, size in self._held.items() if not storage.expired()}
        output = function(*args, **(kwargs or {}))
        shared = {_storage(tensor) for tensor in _tensors([args, kwargs])}
        for tensor in _tensors(output):
            storage = _storage(tensor)
            if storage not in shared and storage not in self._held:
                self._held[storage] = tensor.untyped_storage().nbytes()
                self.allocated.append(self._held[storage])
        self.peak = max(self.peak, sum(self._held.values()))
        return output


def _storage(tensor: Tensor) -> StorageWeakRef:
    return StorageWeakRef(tensor.untyped_storage())


def _tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor in nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors(item)
