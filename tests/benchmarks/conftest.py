"""Fixtures that several tests share."""

from __future__ import annotations

import pytest

from benchmarks.tiny import model


@pytest.fixture(scope="session")
def tiny_model():
    """The embedded model. Tests leave it as it is."""
    return model.load()
