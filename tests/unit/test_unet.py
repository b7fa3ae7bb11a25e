"""Finding self-attention and its levels in the UNets of the real libraries."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from tests.unit.small_models import (
    CONTEXT,
    SD1_BLOCKS,
    OneLevel,
    WebUIModel,
    assert_no_hooks,
    diffusers_unet,
    ldm_unet,
    motion_unet,
)
from todo import Settings, UnsupportedModelError, apply_patch, patched, remove_patch
from todo.unet import find_self_attention, find_unet


def levels(unet: nn.Module) -> dict[str, int]:
    """The resolution of each transformer, by path."""
    found = {}
    for block in find_self_attention(unet):
        path, _, index = block.name.partition(".transformer_blocks.")
        assert block.transformer is unet.get_submodule(path)
        assert block.attention is block.transformer.transformer_blocks[int(index)].attn1
        assert found.setdefault(path, block.resolution) == block.resolution
    return found


def flat(blocks: dict[int, list[str]]) -> dict[str, int]:
    return {path: resolution for resolution, paths in blocks.items() for path in paths}


def test_sd1(ldm_unet):
    assert levels(ldm_unet) == flat(SD1_BLOCKS)
    assert len(find_self_attention(ldm_unet)) == 15


def test_sd2():
    unet = ldm_unet(
        model_channels=64,
        num_heads=-1,
        num_head_channels=64,
        context_dim=1024,
        use_linear_in_transformer=True,
        channel_mult=[1, 1, 2, 2],
    )
    assert isinstance(unet.input_blocks[1][1].proj_in, nn.Linear)
    assert levels(unet) == flat(SD1_BLOCKS)


SDXL_BLOCKS = {
    1: ["input_blocks.4.1", "input_blocks.5.1", "output_blocks.3.1", "output_blocks.4.1", "output_blocks.5.1"],
    2: ["input_blocks.7.1", "input_blocks.8.1", "output_blocks.0.1", "output_blocks.1.1", "output_blocks.2.1"],
}


@pytest.fixture(scope="module")
def sdxl_shaped():
    return ldm_unet(
        attention_resolutions=[4, 2], channel_mult=[1, 2, 4], transformer_depth=2, context_dim=[16, 16],
        use_linear_in_transformer=True,
    )  # fmt: skip


def test_sdxl_shaped_ldm(sdxl_shaped):
    assert levels(sdxl_shaped) == flat(SDXL_BLOCKS)
    assert len(find_self_attention(sdxl_shaped)) == 20


@pytest.mark.parametrize("resampling", [{"resblock_updown": True}, {"conv_resample": False}])
def test_other_resampling(resampling):
    assert levels(ldm_unet(num_res_blocks=1, **resampling)) == {
        "input_blocks.1.1": 1, "input_blocks.3.1": 2, "input_blocks.5.1": 4,
        "output_blocks.2.1": 4, "output_blocks.3.1": 4, "output_blocks.4.1": 2, "output_blocks.5.1": 2,
        "output_blocks.6.1": 1, "output_blocks.7.1": 1,
    }  # fmt: skip


def test_uneven_levels():
    unet = ldm_unet(attention_resolutions=[1, 8], num_res_blocks=1)
    assert sorted(set(levels(unet).values())) == [1, 8]
    unet = ldm_unet(num_res_blocks=[1, 2, 1, 1])
    assert sorted(levels(unet).values()) == [1] * 3 + [2] * 5 + [4] * 3


def test_diffusers(diffusers_unet):
    assert levels(diffusers_unet) == {
        "down_blocks.0.attentions.0": 1, "down_blocks.1.attentions.0": 2,
        "up_blocks.0.attentions.0": 2, "up_blocks.0.attentions.1": 2,
        "up_blocks.1.attentions.0": 1, "up_blocks.1.attentions.1": 1,
    }  # fmt: skip


@pytest.fixture(scope="module")
def sdxl_diffusers():
    return diffusers_unet(
        block_out_channels=(32, 64, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 3),
        use_linear_projection=True,
    )


def test_sdxl_shaped_diffusers(sdxl_diffusers):
    assert levels(sdxl_diffusers) == {
        "down_blocks.1.attentions.0": 1, "down_blocks.2.attentions.0": 2,
        "up_blocks.0.attentions.0": 2, "up_blocks.0.attentions.1": 2,
        "up_blocks.1.attentions.0": 1, "up_blocks.1.attentions.1": 1,
    }  # fmt: skip
    assert len(find_self_attention(sdxl_diffusers)) == 3 * 2 + 3 * 3


def test_levels_match_the_number_of_tokens(sdxl_diffusers):
    """The resolution of each block agrees with the number of tokens in its calls."""
    tokens: dict[int, set[int]] = {}
    handles = [
        block.attention.register_forward_hook(
            lambda _, args, _output, at=block.resolution: tokens.setdefault(at, set()).add(args[0].shape[1])
        )
        for block in find_self_attention(sdxl_diffusers)
    ]
    with torch.no_grad():
        sdxl_diffusers(torch.randn(1, 4, 24, 16), 10, torch.randn(1, 7, 16))
    for handle in handles:
        handle.remove()
    assert tokens == {1: {12 * 8}, 2: {6 * 4}}


def test_the_order_is_the_unets_own(ldm_unet):
    names = [name for name, _ in ldm_unet.named_modules()]
    found = [names.index(block.name) for block in find_self_attention(ldm_unet)]
    assert found == sorted(found)


def test_class_names_do_not_matter(ldm_unet):
    renamed = []
    for module in ldm_unet.modules():
        if type(module).__name__ in ("BasicTransformerBlock", "SpatialTransformer", "CrossAttention", "Downsample"):
            renamed.append((module, type(module)))
            module.__class__ = type("Renamed", (type(module),), {})
    try:
        assert levels(ldm_unet) == flat(SD1_BLOCKS)
    finally:
        for module, own in renamed:
            module.__class__ = own


class Holder:
    """An object with attributes that is not a module, like a pipeline."""

    def __init__(self, **attributes):
        vars(self).update(attributes)


def test_find_unet(ldm_unet, diffusers_unet):
    assert find_unet(ldm_unet) is ldm_unet
    assert find_unet(diffusers_unet) is diffusers_unet
    assert find_unet(WebUIModel(ldm_unet)) is ldm_unet
    assert find_unet(WebUIModel(ldm_unet).model) is ldm_unet
    assert find_unet(Holder(unet=diffusers_unet)) is diffusers_unet
    assert find_unet(Holder(model=Holder(diffusion_model=ldm_unet))) is ldm_unet


class DiT(nn.Module):
    """A sequence of transformer blocks, without a UNet."""

    def __init__(self):
        super().__init__()
        self.transformer_blocks = OneLevel().transformer.transformer_blocks


class Convolutional(nn.Module):
    def __init__(self):
        super().__init__()
        self.input_blocks = nn.ModuleList([nn.Sequential(nn.Conv2d(4, 4, 3))])


@pytest.mark.parametrize("make", [lambda: nn.Linear(2, 2), Convolutional, DiT, lambda: None, lambda: "a path", Holder])
def test_unsupported(make):
    model = make()
    with pytest.raises(UnsupportedModelError) as caught:
        apply_patch(model, Settings())
    assert type(model).__name__ in str(caught.value)
    assert "attention" in str(caught.value) or "attn1" in str(caught.value)
    assert remove_patch(model) is False


def test_unsupported_names_where_it_looked():
    with pytest.raises(UnsupportedModelError) as caught:
        find_unet(nn.Linear(2, 2))
    for words in ("attn1", "to_q", "to_k", "to_v", "model.diffusion_model", "unet"):
        assert words in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_diffusers_transformers_without_a_unet():
    from diffusers import PixArtTransformer2DModel

    model = PixArtTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, num_layers=1, in_channels=4, out_channels=8, sample_size=8,
        cross_attention_dim=16, caption_channels=16,
    )  # fmt: skip
    with pytest.raises(UnsupportedModelError):
        find_self_attention(find_unet(model))


def test_fused_projections():
    unet = diffusers_unet()
    unet.fuse_qkv_projections()
    with pytest.raises(UnsupportedModelError, match="fused"):
        find_self_attention(unet)
    unet.unfuse_qkv_projections()
    assert len(find_self_attention(unet)) == 6


def test_disabled_self_attention_of_a_level():
    unet = ldm_unet(disable_self_attentions=[True, False, False, False])
    found = levels(unet)
    assert set(found) == set(SD1_BLOCKS[2]) | set(SD1_BLOCKS[4])
    assert {found[path] for path in SD1_BLOCKS[2]} == {1}
    assert {found[path] for path in SD1_BLOCKS[4]} == {2}


def test_disabled_self_attention_everywhere():
    for middle in (False, True):
        unet = ldm_unet(disable_self_attentions=[True] * 4, disable_middle_self_attn=middle)
        with pytest.raises(UnsupportedModelError):
            find_self_attention(find_unet(unet))


def test_only_cross_attention():
    unet = diffusers_unet(only_cross_attention=(True, False))
    assert set(levels(unet)) == {"down_blocks.1.attentions.0", "up_blocks.0.attentions.0", "up_blocks.0.attentions.1"}
    assert set(levels(unet).values()) == {1}


def test_freenoise_wraps_the_layers():
    """AnimateDiff's split inference: levels and attention are found within the wrappers, and act."""
    from diffusers.pipelines.free_noise_utils import AnimateDiffFreeNoiseMixin

    pipeline = AnimateDiffFreeNoiseMixin()
    unet = pipeline.unet = motion_unet(middle=True)
    latent, text = torch.randn(1, 4, 4, 16, 24), torch.randn(1, 7, CONTEXT).expand(4, -1, -1)

    def output(patch) -> torch.Tensor:
        patch.at(0, 4)
        with torch.no_grad():
            return unet(latent, torch.tensor([500.0]), text).sample

    expected = [(block.resolution, block.depth) for block in find_self_attention(unet)]
    with patched(unet, Settings(factor=2)) as patch:
        whole = output(patch)
    pipeline.enable_free_noise_split_inference(temporal_split_size=2)
    assert [(block.resolution, block.depth) for block in find_self_attention(unet)] == expected
    with patched(unet, Settings(factor=2)) as patch:
        torch.testing.assert_close(output(patch), whole)
        assert {(row.calls, row.downsampled) for row in patch.report()} == {(2, 2)}, "for each half of the frames"
    assert_no_hooks(unet)


class PlainDownsample(nn.Module):
    """A stand-in for the resampling layers of sd-scripts, which hold a convolution and nothing that says what they are
    for (library/sdxl_original_unet.py)."""

    def __init__(self, stride: int):
        super().__init__()
        self.op = nn.Conv2d(8, 8, 3, stride=stride, padding=1)


def test_resampling_layers_that_only_hold_a_convolution(ldm_unet):
    transformers = [copy.deepcopy(ldm_unet.input_blocks[1][1]) for _ in range(4)]
    unet = nn.Module()
    unet.input_blocks = nn.ModuleList(
        [nn.ModuleList([nn.Conv2d(4, 8, 3)]), nn.ModuleList([PlainDownsample(2)]), nn.ModuleList([transformers[0]]),
         nn.ModuleList([PlainDownsample(2)]), nn.ModuleList([transformers[1]])]
    )  # fmt: skip
    unet.output_blocks = nn.ModuleList(
        [nn.ModuleList([transformers[2], PlainDownsample(1)]), nn.ModuleList([transformers[3], PlainDownsample(1)])]
    )
    assert [block.resolution for block in find_self_attention(unet)] == [1, 2, 2, 1]
