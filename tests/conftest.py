"""What all tests share: the same random numbers each time, and one thread for tensors so small."""

import os

import pytest
import torch
from hypothesis import settings

settings.register_profile("todo", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("todo")


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Small tensors compute faster on one thread, and always in the same order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session", autouse=True)
def _no_terminal():
    """Tables are as wide as they are. A process that runs a part of the tests is told of a terminal's width."""
    os.environ.pop("COLUMNS", None)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
