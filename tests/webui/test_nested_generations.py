"""Another extension runs its own generation in the middle of ours."""

from __future__ import annotations

from copy import copy

import pytest
import torch

from tests.unit.small_models import assert_no_hooks, hook_counts

from .conftest import keys_seen
from .generations import CALLS, FACTOR_2, KEPT, SECOND, SIZE, add_script


def add_detailer(host, monkeypatch, with_our_script):
    """Adds a script that refines each image with its own generation. It ends and restarts ours with copies of `p`."""
    inner_seen = []

    class Detailer(host.scripts.Script):
        def postprocess_image(self, p, pp, *args):
            if getattr(p, "inner", False):
                return
            p.scripts.postprocess(copy(p), host.processing.Processed(copy(p), []))
            inner = host.p([FACTOR_2], tab="img2img")
            inner.inner = True
            if not with_our_script:
                inner.scripts = copy(inner.scripts)
                inner.scripts.alwayson_scripts = []
            with keys_seen(host.unet) as seen:
                host.processing.process_images(inner)
            inner_seen.append(seen)
            p.scripts.process(copy(p))

    add_script(host, monkeypatch, Detailer())
    return inner_seen


@pytest.mark.parametrize("with_our_script", [False, True], ids=["without ours", "with ours"])
def test_a_generation_in_the_middle_only_has_the_patch_if_it_asks_for_it(host, monkeypatch, with_our_script):
    plain = host.generate(FACTOR_2, n_iter=2)
    inner = add_detailer(host, monkeypatch, with_our_script)
    host.log.records.clear()
    outcome = host.generate(FACTOR_2, n_iter=2)
    assert torch.equal(outcome.latents, plain.latents)
    assert inner == [[KEPT if with_our_script else SIZE] * SECOND] * 2
    lines = host.log.at("INFO")
    assert len(lines) == (3 if with_our_script else 1)
    assert f"in {2 * CALLS} of {2 * CALLS} attention calls" in lines[-1]
    assert_no_hooks(host.unet)
    assert outcome.processed.infotexts == plain.processed.infotexts


def test_a_generation_in_the_middle_of_one_without_todo_gets_nothing(host, monkeypatch):
    plain = host.generate(n_iter=2)
    add_detailer(host, monkeypatch, with_our_script=False)
    assert torch.equal(host.generate(n_iter=2).latents, plain.latents)
    assert host.log.records == []


def test_a_generation_in_the_middle_does_not_remove_the_effect_from_the_infotext(host, monkeypatch):
    add_detailer(host, monkeypatch, with_our_script=False)
    outcome = host.generate({"mode": "auto"}, n_iter=2)
    assert len(outcome.processed.infotexts) == 2
    assert all("ToDo effect: none at this size in so few steps" in text for text in outcome.processed.infotexts)


def test_a_hook_of_another_extension_stays(host):
    attention = host.unet.get_submodule("input_blocks.1.1").transformer_blocks[0].attn1
    handle = attention.to_k.register_forward_pre_hook(lambda *_: None)
    host.generate(FACTOR_2)
    left = hook_counts(host.unet)
    handle.remove()
    assert list(left.values()) == [1]
