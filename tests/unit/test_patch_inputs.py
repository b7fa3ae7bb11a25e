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


def inside(level, given, call):
    """What `call` returns where it takes the place of self-attention, within a call of the transformer."""
    results = []

    def forward(x, context=None, mask=None):
        del level.attention.forward
        results.append(call())
        return x

    level.attention.forward = forward
    run(level, given)
    (result,) = results
    return result


def test_a_context_of_whole_grids(level):
    grid = (13, 9)
    given = level_inputs(*grid, batch=2)
    tokens, _ = attention_calls(level, given)
    bank = torch.cat([tokens, torch.randn_like(tokens), torch.randn_like(tokens)], dim=1)
    with patched(level, Settings(factor=2)) as patch, torch.no_grad():
        patch.at(1, 20)
        output = inside(level, given, lambda: level.attention(tokens, context=bank))
        positional = inside(level, given, lambda: level.attention(tokens, bank))
        expected = attend(level.attention, tokens, subsample(bank, *grid, 2, offset=OFFSETS[1]))
        close(output, expected)
        close(positional, expected)
        (row,) = patch.report()
        assert (row.calls, row.downsampled, row.kept) == (2, 2, 7 * 5)


@pytest.mark.parametrize("length", [1, 77, 13 * 9 - 1, 13 * 9 + 1, 2 * 13 * 9 + 5])
def test_a_context_of_other_tokens(level, length):
    grid = (13, 9)
    given = level_inputs(*grid)
    tokens, _ = attention_calls(level, given)
    text = torch.randn(1, length, tokens.shape[2])
    with torch.no_grad():
        dense = level.attention(tokens, context=text)
    with patched(level, FIXED) as patch, torch.no_grad():
        assert torch.equal(inside(level, given, lambda: level.attention(tokens, context=text)), dense)
        (row,) = patch.report()
        assert (row.calls, row.downsampled) == (1, 0)
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
def projected(level):
    """A function that calls projections within a call of the transformer, as an attention would, and returns their
    results; the patch, tokens for the projections, and the reference of which are kept."""
    grid = (13, 9)
    given = level_inputs(*grid)
    tokens, _ = attention_calls(level, given)

    def call(*calls):
        return inside(level, given, lambda: [getattr(level.attention, name)(each) for name, each in calls])

    with patched(level, FIXED) as patch, torch.no_grad():
        yield call, patch, tokens, lambda whole: subsample(whole, *grid, 2)


def test_values_alone_stay_whole(level, projected):
    call, patch, tokens, fewer = projected
    attention = level.attention
    keys, values, again = call(("to_q", tokens), ("to_k", tokens), ("to_v", tokens), ("to_v", tokens))[1:]
    assert torch.equal(keys, project(attention.to_k, fewer(tokens)))
    assert torch.equal(values, project(attention.to_v, fewer(tokens)))
    assert torch.equal(again, project(attention.to_v, tokens))
    assert torch.equal(call(("to_q", tokens), ("to_v", tokens))[1], project(attention.to_v, tokens))
    assert patch.report()[0].downsampled == 1


def test_keys_without_queries_stay_whole(level, projected):
    call, patch, tokens, _ = projected
    keys, values = call(("to_k", tokens), ("to_v", tokens))
    assert torch.equal(keys, project(level.attention.to_k, tokens))
    assert torch.equal(values, project(level.attention.to_v, tokens))
    assert sum(patch.report()[0].skips.values()) == 1


def test_separate_inputs_for_keys_and_values(level, projected):
    """As from a hypernetwork."""
    call, _, tokens, fewer = projected
    for_keys, for_values = tokens + 1, tokens * 2
    _, keys, values = call(("to_q", tokens), ("to_k", for_keys), ("to_v", for_values))
    assert torch.equal(keys, project(level.attention.to_k, fewer(for_keys)))
    assert torch.equal(values, project(level.attention.to_v, fewer(for_values)))


def test_whole_keys_have_whole_values(projected):
    call, _, tokens, _ = projected
    text = torch.randn(1, 77, tokens.shape[2])
    _, keys, values = call(("to_q", tokens), ("to_k", text), ("to_v", text))
    assert keys.shape[1] == values.shape[1] == 77
    _, keys, values = call(("to_q", tokens), ("to_k", text), ("to_v", tokens))
    assert (keys.shape[1], values.shape[1]) == (77, tokens.shape[1])


def test_attention_outside_of_a_transformer_stays_whole(level):
    """As where a backward pass computes a block again."""
    tokens, _ = attention_calls(level, level_inputs(13, 9))
    with torch.no_grad():
        dense = level.attention(tokens)
        with patched(level, FIXED):
            run(level, level_inputs(13, 9))
            assert torch.equal(level.attention(tokens), dense)


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
