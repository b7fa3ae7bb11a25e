"""The patch with unusual inputs: an explicit context, a mask, tiles, and separate keys and values."""

from __future__ import annotations

import pytest
import torch
from einops import rearrange

from tests.unit.comparing import attention_calls, close, differs
from tests.unit.plain_attention import OFFSETS, attend, project, subsample
from tests.unit.small_models import level_inputs, run
from todo import Settings, patched

FIXED = Settings(factor=2, phase="fixed")


def test_a_context_of_whole_grids(level):
    grid = (13, 9)
    given = level_inputs(*grid, batch=2)
    tokens, _ = attention_calls(level, given)
    bank = torch.cat([tokens, torch.randn_like(tokens), torch.randn_like(tokens)], dim=1)
    with patched(level, Settings(factor=2)) as patch, torch.no_grad():
        patch.at(1, 20)
        run(level, given)
        output = level.attention(tokens, context=bank)
        positional = level.attention(tokens, bank)
        expected = attend(level.attention, tokens, subsample(bank, *grid, 2, offset=OFFSETS[1]))
        close(output, expected)
        close(positional, expected)
        (row,) = patch.report()
        assert (row.calls, row.downsampled, row.kept) == (3, 3, 7 * 5)


@pytest.mark.parametrize("length", [1, 77, 13 * 9 - 1, 13 * 9 + 1, 2 * 13 * 9 + 5])
def test_a_context_of_other_tokens(level, length):
    grid = (13, 9)
    given = level_inputs(*grid)
    tokens, _ = attention_calls(level, given)
    text = torch.randn(1, length, tokens.shape[2])
    with torch.no_grad():
        dense = level.attention(tokens, context=text)
    with patched(level, FIXED) as patch, torch.no_grad():
        run(level, given)
        assert torch.equal(level.attention(tokens, context=text), dense)
        (row,) = patch.report()
        assert (row.calls, row.downsampled) == (2, 1)
        ((reason, count),) = row.skips.items()
        assert count == 1
        assert "multiple" in reason


def tile(forward, rows: int, columns: int, height: int, width: int):
    """Like HyperTile's wrapper: moves tiles into the batch before attention and back afterwards."""

    def tiled(*args, **kwargs):
        sizes = {"nh": rows, "nw": columns, "h": height // rows, "w": width // columns}
        x = rearrange(args[0], "b (nh h nw w) c -> (b nh nw) (h w) c", **sizes)
        out = forward(x, *args[1:], **kwargs)
        out = rearrange(out, "(b nh nw) hw c -> b nh nw hw c", nh=rows, nw=columns)
        return rearrange(out, "b nh nw (h w) c -> b (nh h nw w) c", h=height // rows, w=width // columns)

    return tiled


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("batch", [1, 2])
def test_tiles(level, before, batch):
    grid = (16, 24)
    given = level_inputs(*grid, batch=batch)
    plain = run(level, given)
    level.attention.forward = tile(level.attention.forward, 2, 3, *grid)
    try:
        tiled = run(level, given)
        differs(tiled, plain)
        if not before:
            del level.attention.forward
        with patched(level, FIXED) as patch:
            if not before:
                level.attention.forward = tile(level.attention.forward, 2, 3, *grid)
            assert torch.equal(run(level, given), tiled)
            (row,) = patch.report()
            assert (row.calls, row.downsampled) == (1, 0)
            (reason,) = row.skips
            assert "tile" in reason
        assert torch.equal(run(level, given), tiled)
    finally:
        del level.attention.forward
    assert torch.equal(run(level, given), plain)


def test_tiled_queries_alone(level):
    grid = (16, 24)
    given = level_inputs(*grid)
    attention = level.attention
    sizes = {"nh": 2, "nw": 2, "h": 8, "w": 12}

    def forward(x, context=None, mask=None):
        def cut(tokens):
            return rearrange(tokens, "b (nh h nw w) c -> (b nh nw) (h w) c", **sizes)

        q, k, v = attention.to_q(cut(x)), cut(attention.to_k(x)), cut(attention.to_v(x))
        out = (q @ k.transpose(1, 2) * attention.scale).softmax(dim=-1) @ v
        return attention.to_out(rearrange(out, "(b nh nw) (h w) c -> b (nh h nw w) c", **sizes))

    attention.forward = forward
    try:
        tiled = run(level, given)
        with patched(level, FIXED) as patch:
            assert torch.equal(run(level, given), tiled)
            (row,) = patch.report()
            assert row.downsampled == 0
            assert "batch" in next(iter(row.skips))
    finally:
        del attention.forward


@pytest.fixture
def hooked(level):
    """A patched attention module whose grid is known, its patch, tokens for its projections, and the reference."""
    grid = (13, 9)
    given = level_inputs(*grid)
    tokens, _ = attention_calls(level, given)
    with patched(level, FIXED) as patch, torch.no_grad():
        run(level, given)
        yield level.attention, patch, tokens, lambda whole: subsample(whole, *grid, 2)


def test_values_alone_stay_whole(hooked):
    attention, patch, tokens, fewer = hooked
    attention.to_q(tokens)
    assert torch.equal(attention.to_k(tokens), project(attention.to_k, fewer(tokens)))
    assert torch.equal(attention.to_v(tokens), project(attention.to_v, fewer(tokens)))
    assert torch.equal(attention.to_v(tokens), project(attention.to_v, tokens))
    attention.to_q(tokens)
    assert torch.equal(attention.to_v(tokens), project(attention.to_v, tokens))
    assert patch.report()[0].calls == 2


def test_keys_without_queries_stay_whole(hooked):
    attention, patch, tokens, _ = hooked
    assert torch.equal(attention.to_k(tokens), project(attention.to_k, tokens))
    assert torch.equal(attention.to_v(tokens), project(attention.to_v, tokens))
    assert sum(patch.report()[0].skips.values()) == 1


def test_separate_inputs_for_keys_and_values(hooked):
    """As from a hypernetwork."""
    attention, _, tokens, fewer = hooked
    for_keys, for_values = tokens + 1, tokens * 2
    attention.to_q(tokens)
    assert torch.equal(attention.to_k(for_keys), project(attention.to_k, fewer(for_keys)))
    assert torch.equal(attention.to_v(for_values), project(attention.to_v, fewer(for_values)))


def test_whole_keys_have_whole_values(hooked):
    attention, _, tokens, _ = hooked
    text = torch.randn(1, 77, tokens.shape[2])
    attention.to_q(tokens)
    assert attention.to_k(text).shape[1] == attention.to_v(text).shape[1] == 77
    attention.to_q(tokens)
    assert attention.to_k(text).shape[1] == 77
    assert attention.to_v(tokens).shape[1] == tokens.shape[1]


def test_keys_and_values_share_one_gather(level):
    arrived = []
    with patched(level, FIXED):
        handles = [
            projection.register_forward_hook(lambda _, args, output: arrived.append(args[0]))
            for projection in (level.attention.to_k, level.attention.to_v)
        ]
        run(level, level_inputs(13, 9))
        for handle in handles:
            handle.remove()
    keys, values = arrived
    assert keys is values
    assert keys.shape[1] == 7 * 5


def test_nothing_is_held_between_calls(level):
    """The gathered tokens are freed after each call. Between calls, a patch costs no memory."""
    import gc
    import weakref

    held = []
    with patched(level, FIXED):
        handle = level.attention.to_v.register_forward_hook(lambda _, args, output: held.append(weakref.ref(args[0])))
        run(level, level_inputs(13, 9))
        handle.remove()
        gc.collect()
        assert held[0]() is None
