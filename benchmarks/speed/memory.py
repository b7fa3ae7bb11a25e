"""Peak memory of a UNet call in bytes, above what was held before the call."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.method import Method
from benchmarks.speed.methods import set_step
from benchmarks.speed.models import call, inputs, latent_size
from todo.prediction import LARGEST_SIDE, side_step


class Shadow:
    """A copy of a UNet whose tensors have shapes but no data, so that each operation only works out the shape of its
    result. A call at any size takes little time and memory, and has the same peak as on the UNet itself.

    Args:
        unet: the UNet to copy.
        family: 'sd1', 'sd2' or 'sdxl'.
    """

    def __init__(self, unet: nn.Module, family: str):
        self.family = family
        self._mode = FakeTensorMode()
        with FakeCopyMode(self._mode):
            self._unet = copy.deepcopy(unet)

    def peak(self, method: Method, size: tuple[int, int], batch: int = 1) -> int:
        """Peak memory in bytes of a call with a method at `size` = (width, height) in pixels, as `LiveStorage` counts
        it."""
        latent = latent_size(size)
        with self._mode, method.apply(self._unet, latent) as patch:
            set_step(patch)
            arguments = inputs(self._unet, self.family, size, batch)
            with LiveStorage() as live:
                call(self._unet, arguments)
        return live.peak

    def largest_side(self, method: Method, budget: int, batch: int = 1) -> int:
        """The side in pixels of the largest square image whose call has a peak within `budget` bytes, up to the largest
        that can be planned; 0 if even the smallest needs more."""
        step = side_step(self.family)
        fits, too_large = 0, LARGEST_SIDE // step + 1
        while too_large - fits > 1:
            middle = (fits + too_large) // 2
            if self.peak(method, (middle * step, middle * step), batch) <= budget:
                fits = middle
            else:
                too_large = middle
        return fits * step


class LiveStorage(TorchDispatchMode):
    """Adds up, after each operation, the tensor storage that was allocated within a `with` block and is still held.

    Views and results of in-place operations add nothing, since they share storage. Not counted are memory that an
    operation allocates and frees internally, such as a convolution's workspace, and memory that the allocator caches.

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
