"""Fixtures: the minimal WebUI with this extension. After each test they check that the model has no hooks left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from torch import nn

from tests.standin import host as standin
from tests.unit.small_models import assert_no_hooks


@pytest.fixture(scope="module")
def running_host():
    with standin.running() as host:
        yield host


@pytest.fixture
def host(running_host):
    """A host that all tests of a file share. Tests that reload its page use `own_host`."""
    yield from _checked(running_host)


@pytest.fixture
def own_host():
    """A host for one test only."""
    with standin.running() as started:
        yield from _checked(started)
    assert_no_hooks(standin.small_unet())


def _checked(host: standin.Host) -> Iterator[standin.Host]:
    host.log.records.clear()
    host.failures()
    callbacks = {event: list(registered) for event, registered in host.script_callbacks.callback_map.items()}
    host.use_checkpoint(standin.CHECKPOINT)
    yield host
    host.script_callbacks.callback_map.update(callbacks)
    assert host.failures() == []
    assert_no_hooks(standin.small_unet())


@contextmanager
def keys_seen(unet: nn.Module, block: str = "input_blocks.1.1") -> Iterator[list[int]]:
    """The number of keys that a block's self-attention computed, for each call."""
    seen: list[int] = []
    attention: Any = unet.get_submodule(block).transformer_blocks[0].attn1
    handle = attention.to_k.register_forward_hook(lambda *given: seen.append(given[2].shape[1]))
    try:
        yield seen
    finally:
        handle.remove()
