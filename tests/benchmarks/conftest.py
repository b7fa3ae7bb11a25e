"""Fixtures that several tests share."""

from __future__ import annotations

import pytest

from benchmarks.tiny import model
from tests.benchmarks.small_checkpoints import small_pipeline


@pytest.fixture(scope="session")
def tiny_model():
    """The embedded model. Tests leave it as it is."""
    return model.load()


@pytest.fixture(scope="session")
def small_checkpoints(tmp_path_factory):
    """Folders of tiny pipelines in the layouts of SD1 and SDXL. Tests leave them as they are."""
    folders = {}
    for family in ("sd1", "sdxl"):
        folders[family] = tmp_path_factory.mktemp(family)
        pipeline = small_pipeline(family == "sdxl", tmp_path_factory.mktemp("tokenizer"))
        pipeline.save_pretrained(folders[family])
    return folders
