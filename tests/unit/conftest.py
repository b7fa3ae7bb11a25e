"""Fixtures: small UNets from the real libraries, in which every layer has an effect."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.recording import Count
from tests.unit import small_models

ROOT = Path(__file__).parents[2]


def pytest_configure(config: pytest.Config) -> None:
    if record := os.environ.get("UNIT_RECORD"):
        config.pluginmanager.register(Count(Path(record)))


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def _shared_ldm():
    return small_models.ldm_unet()


@pytest.fixture
def ldm_unet(_shared_ldm):
    """ldm's UNet in the layout of SD1. It is shared, so each test must leave it unchanged. The fixture checks this."""
    yield _shared_ldm
    small_models.assert_no_hooks(_shared_ldm)


@pytest.fixture(scope="session")
def _shared_diffusers():
    return small_models.diffusers_unet()


@pytest.fixture
def diffusers_unet(_shared_diffusers):
    """diffusers' UNet with two levels of attention. Shared like `ldm_unet`."""
    from diffusers.models.attention_processor import AttnProcessor2_0

    _shared_diffusers.set_attn_processor(AttnProcessor2_0())
    yield _shared_diffusers
    small_models.assert_no_hooks(_shared_diffusers)


@pytest.fixture(scope="module")
def level():
    """A UNet reduced to one spatial transformer. Each file of tests has its own."""
    return small_models.one_level()
