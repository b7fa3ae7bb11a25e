"""Forward hooks that last as long as a `with` block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch.utils.hooks import RemovableHandle


@contextmanager
def attached(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Registers the hooks that `handles` yields, and removes them when the block ends, also by an error."""
    registered = list(handles)
    try:
        yield
    finally:
        for handle in registered:
            handle.remove()
