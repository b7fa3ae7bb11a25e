"""The patch on the pipelines of the real diffusers, from embeddings to the final latent.

Each pipeline is compared with a copy that uses the plain reference and counts its steps in the callback.
"""

from __future__ import annotations

import copy
import inspect
import math
from dataclasses import dataclass, field
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor, nn

from tests.unit.plain_attention import OFFSETS, attend, project, subsample
from tests.unit.small_models import CONTEXT, assert_no_hooks, diffusers_unet, randomize_zero_weights
from todo import Settings, UnsupportedModelError, apply_patch, patched, remove_patch

HEIGHT, WIDTH = 16, 24
STEPS = 3
INPUT_IMAGE = torch.rand(1, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(6))

SDXL = {
    "block_out_channels": (32, 64, 64),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 3),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + CONTEXT,
}


@dataclass
class Kind:
    """The class name of a pipeline, the arguments of its call, and how its UNet differs from the default."""

    name: str
    call: dict[str, Any]
    layout: dict[str, Any] = field(default_factory=dict)

    @property
    def is_xl(self) -> bool:
        return self.layout is SDXL

    @property
    def finest(self) -> list[str]:
        """The transformers of the finest self-attention level. SDXL has none at the size of the latent."""
        down = 1 if self.is_xl else 0
        return [f"down_blocks.{down}.attentions.0", "up_blocks.1.attentions.0", "up_blocks.1.attentions.1"]

    @property
    def grid(self) -> tuple[int, int]:
        return (HEIGHT // 2, WIDTH // 2) if self.is_xl else (HEIGHT, WIDTH)


SIZE = {"height": HEIGHT, "width": WIDTH}
IMAGE = {"image": INPUT_IMAGE, "strength": 0.75, "num_inference_steps": 4}  # three of the four steps are run
MASK = {"mask_image": (INPUT_IMAGE[:, :1] > 0.5).float()}
HINT = {"image": INPUT_IMAGE}

PLAIN = Kind("StableDiffusionPipeline", SIZE)
CONTROLNET = Kind("StableDiffusionControlNetPipeline", HINT)
CONTROLNET_XL = Kind("StableDiffusionXLControlNetPipeline", HINT, SDXL)
KINDS = [
    PLAIN,
    Kind("StableDiffusionImg2ImgPipeline", IMAGE),
    Kind("StableDiffusionInpaintPipeline", {**SIZE, **IMAGE, **MASK}, {"in_channels": 9}),
    CONTROLNET,
    Kind("StableDiffusionXLPipeline", SIZE, SDXL),
    Kind("StableDiffusionXLImg2ImgPipeline", IMAGE, SDXL),
    CONTROLNET_XL,
]


def ddim() -> Any:
    return diffusers.DDIMScheduler(steps_offset=1, clip_sample=False)


def euler() -> Any:
    return diffusers.EulerDiscreteScheduler(steps_offset=1)


def make(kind: Kind = PLAIN, scheduler: Any = ddim, **more: Any) -> Any:
    """A pipeline of tiny random networks that needs no text encoder. Its latent has the size of the image."""
    unet = diffusers_unet(**kind.layout)
    torch.manual_seed(4)
    vae = diffusers.AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4).eval()
    parts = {"vae": vae, "unet": unet, "scheduler": scheduler(), **more}
    if "ControlNet" in kind.name:
        controlnet = diffusers.ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8,))
        parts["controlnet"] = randomize_zero_weights(controlnet)
    if kind.is_xl:
        parts |= {"text_encoder_2": None, "tokenizer_2": None, "add_watermarker": False}
    else:
        parts |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    made = getattr(diffusers, kind.name)(text_encoder=None, tokenizer=None, **parts)
    made.set_progress_bar_config(disable=True)
    return made


def networks(pipeline: Any) -> list[nn.Module]:
    return [part for part in (pipeline.unet, getattr(pipeline, "controlnet", None)) if part is not None]


def generate(pipeline: Any, kind: Kind = PLAIN, seed: int = 0, **changes: Any) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    words = torch.randn(1, 7, CONTEXT, generator=generator)
    call = {
        "num_inference_steps": STEPS, "guidance_scale": 5.0, "output_type": "latent", "generator": generator,
        "prompt_embeds": words, "negative_prompt_embeds": words * 0.5,
    }  # fmt: skip
    if kind.is_xl:
        call |= {"pooled_prompt_embeds": words[:, 0], "negative_pooled_prompt_embeds": words[:, 1]}
    return pipeline(**{**call, **kind.call, **changes}).images


def downsampled_attention(
    attention: nn.Module, tokens: Tensor, grid: tuple[int, int], offset: tuple[int, int]
) -> Tensor:
    return attend(attention, tokens, subsample(tokens, *grid, 2, offset=offset))


def generate_plainly(
    pipeline: Any, kind: Kind = PLAIN, controlnet: bool = True, special: dict[str, Any] | None = None, **changes: Any
) -> Tensor:
    """The latent with the plain reference at the finest level: every second token, with another offset at each step.

    `special` holds other reference functions for some transformers, by path.
    """
    copied = copy.deepcopy(pipeline)
    steps = [0]

    def replace(attention: nn.Module, how: Any) -> None:
        attention.forward = lambda tokens, **_: how(attention, tokens, kind.grid, OFFSETS[steps[-1] % 4])

    def count(pipe: Any, step: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        steps.append(step + 1)
        return values

    for network in networks(copied) if controlnet else [copied.unet]:
        for path in kind.finest:
            if network is copied.unet or path.startswith("down_blocks"):
                for block in network.get_submodule(path).transformer_blocks:
                    replace(block.attn1, (special or {}).get(path, downsampled_attention))
    latent = generate(copied, kind, callback_on_step_end=count, **changes)
    assert steps == list(range(STEPS + 1))
    return latent


def close(actual: Tensor, expected: Tensor) -> None:
    """The tolerance is absolute: latents reach several tens, or several hundreds with Euler."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=5e-3)


def differs(actual: Tensor, other: Tensor) -> None:
    """By more than the tolerance of `close`."""
    assert actual.shape == other.shape
    assert (actual - other).abs().max() > 1e-2


_made: dict[str, Any] = {}


@pytest.fixture
def pipeline(request):
    """A pipeline of the kind. It is shared, so each test must leave it unchanged. The fixture checks this."""
    kind = request.getfixturevalue("kind") if "kind" in request.fixturenames else PLAIN
    if kind.name not in _made:
        _made[kind.name] = make(kind)
    yield _made[kind.name]
    for network in networks(_made[kind.name]):
        assert_no_hooks(network)


every = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


@every
def test_each_pipeline(pipeline, kind):
    dense, expected = generate(pipeline, kind), generate_plainly(pipeline, kind)
    with patched(pipeline, Settings(factor=2)) as patch:
        assert list(patch.networks) == networks(pipeline)
        output = generate(pipeline, kind)
        rows = patch.report()
    with patched(pipeline, Settings(factor=2, phase="fixed")):
        differs(generate(pipeline, kind), expected)
    close(output, expected)
    differs(output, dense)
    tokens = math.prod(kind.grid)
    assert {(row.level, row.grid, row.tokens, row.kept) for row in rows} == {(1, kind.grid, tokens, tokens // 4)}
    assert {(row.calls, row.downsampled) for row in rows} == {(STEPS, STEPS)}
    assert torch.equal(generate(pipeline, kind), dense)


@every
def test_a_run_that_is_broken_off(pipeline, kind):
    dense = generate(pipeline, kind)

    def break_off(pipe, step, timestep, values):
        if step == 1:
            raise InterruptedError
        return values

    apply_patch(pipeline, Settings(factor=2))
    with pytest.raises(InterruptedError):
        generate(pipeline, kind, callback_on_step_end=break_off)
    assert remove_patch(pipeline) is True
    assert torch.equal(generate(pipeline, kind), dense)


@pytest.mark.parametrize("kind", [CONTROLNET, CONTROLNET_XL], ids=lambda kind: kind.name)
def test_a_controlnet_left_alone(pipeline, kind):
    expected = generate_plainly(pipeline, kind, controlnet=False)
    with patched(pipeline, Settings(factor=2, controlnet=False)):
        output = generate(pipeline, kind)
        assert_no_hooks(pipeline.controlnet)
    close(output, expected)
    with patched(pipeline, Settings(factor=2)):
        differs(generate(pipeline, kind), output)


@pytest.mark.parametrize("scheduler", [ddim, euler])
def test_a_patch_stays_for_several_images(scheduler):
    pipeline = make(scheduler=scheduler)
    before = generate(pipeline)
    apply_patch(pipeline, Settings(factor=2))
    changed = generate(pipeline)
    differs(changed, before)
    other = generate(pipeline, seed=1)
    assert torch.equal(generate(pipeline), changed)
    assert remove_patch(pipeline) is True
    assert torch.equal(generate(pipeline), before)
    close(changed, generate_plainly(pipeline))
    close(other, generate_plainly(pipeline, seed=1))
    assert remove_patch(pipeline) is False


def test_at_in_the_callback(pipeline):
    """`at` with the true step numbers gives the same image as counting steps by the timestep."""

    def set_step(pipe, step, timestep, values):
        patch.at(step + 1, STEPS)
        return values

    with patched(pipeline, Settings(factor=2)):
        counted = generate(pipeline)
    with patched(pipeline, Settings(factor=2)) as patch:
        patch.at(0, STEPS)
        assert torch.equal(generate(pipeline, callback_on_step_end=set_step), counted)


# Other changes of attention


def test_an_ip_adapter():
    """It adds the tokens of an image to cross-attention, with its own processors, and leaves self-attention alone."""
    pipeline = make()
    unet = pipeline.unet
    torch.manual_seed(8)
    widths = [
        unet.get_submodule(name.removesuffix(".processor")).to_k.out_features
        for name in unet.attn_processors
        if "attn2" in name
    ]
    keys = {
        f"{2 * index + 1}.to_{part}_ip.weight": torch.randn(width, CONTEXT)
        for index, width in enumerate(widths)
        for part in "kv"
    }
    projection = {"proj.weight": torch.randn(4 * CONTEXT, 8), "proj.bias": torch.zeros(4 * CONTEXT)}
    projection |= {"norm.weight": torch.ones(CONTEXT), "norm.bias": torch.zeros(CONTEXT)}
    without = generate(pipeline)
    unet._load_ip_adapter_weights([{"image_proj": projection, "ip_adapter": keys}], low_cpu_mem_usage=False)
    image_embeds = {"ip_adapter_image_embeds": [torch.randn(2, 1, 8)]}
    dense = generate(pipeline, **image_embeds)
    differs(dense, without)
    with patched(pipeline, Settings(factor=2)) as patch:
        output = generate(pipeline, **image_embeds)
        assert {(row.calls, row.downsampled) for row in patch.report()} == {(STEPS, STEPS)}
    close(output, generate_plainly(pipeline, **image_embeds))
    differs(output, dense)
    assert torch.equal(generate(pipeline, **image_embeds), dense)
    assert_no_hooks(unet)


PERTURBED = Kind("StableDiffusionPAGPipeline", SIZE)


def perturbed(attention: nn.Module, tokens: Tensor, grid: tuple[int, int], offset: tuple[int, int]) -> Tensor:
    """Two thirds of the batch attend. In the last third, the result of each token is its own value."""
    attending, alone = tokens[:2], tokens[2:]
    values = project(attention.to_out[0], project(attention.to_v, alone))
    return torch.cat([downsampled_attention(attention, attending, grid, offset), values])


@pytest.mark.parametrize("layers", [["mid"], ["down_blocks.0", "mid"]])
def test_perturbed_attention_guidance(layers):
    pipeline = make(PERTURBED, pag_applied_layers=layers)
    call = {"pag_scale": 3.0}
    special = {path: perturbed for path in PERTURBED.finest if path.startswith(tuple(layers))}
    dense = generate(pipeline, PERTURBED, **call)
    differs(dense, generate(pipeline, PERTURBED, pag_scale=0.0))
    expected = generate_plainly(pipeline, PERTURBED, special=special, **call)
    with patched(pipeline, Settings(factor=2)) as patch:
        output = generate(pipeline, PERTURBED, **call)
        assert {(row.calls, row.downsampled) for row in patch.report()} == {(STEPS, STEPS)}
    close(output, expected)
    differs(output, dense)
    assert torch.equal(generate(pipeline, PERTURBED, **call), dense)
    assert_no_hooks(pipeline.unet)


def test_fused_projections():
    pipeline = make()
    dense = generate(pipeline)
    with patched(pipeline, Settings(factor=2)) as patch:
        pipeline.fuse_qkv_projections(vae=False)
        close(generate(pipeline), dense)
        for row in patch.report():
            assert (row.calls, row.downsampled) == (STEPS, 0)
            assert "fused" in next(iter(row.skips))
    with pytest.raises(UnsupportedModelError, match="unfuse"):
        apply_patch(pipeline, Settings(factor=2))
    assert_no_hooks(pipeline.unet)
    pipeline.unfuse_qkv_projections(vae=False)
    with patched(pipeline, Settings(factor=2)):
        close(generate(pipeline), generate_plainly(make()))


# Pipelines without a UNet


def pixart() -> Any:
    return diffusers.PixArtAlphaPipeline, diffusers.PixArtTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, num_layers=1, in_channels=4, out_channels=8, sample_size=8,
        cross_attention_dim=16, caption_channels=16,
    )  # fmt: skip


def sd3() -> Any:
    return diffusers.StableDiffusion3Pipeline, diffusers.SD3Transformer2DModel(
        sample_size=8, in_channels=4, out_channels=4, num_layers=1, num_attention_heads=2, attention_head_dim=8,
        joint_attention_dim=16, caption_projection_dim=16, pooled_projection_dim=16,
    )  # fmt: skip


def flux() -> Any:
    return diffusers.FluxPipeline, diffusers.FluxTransformer2DModel(
        in_channels=4, num_layers=1, num_single_layers=1, num_attention_heads=2, attention_head_dim=16,
        joint_attention_dim=16, pooled_projection_dim=16, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip


@pytest.mark.parametrize("build", [pixart, sd3, flux])
def test_diffusion_transformers_are_refused(build):
    """The message says what was looked for, and where. The model is not changed."""
    pipeline_class, transformer = build()
    names = set(inspect.signature(pipeline_class).parameters) - {"is_distilled"}
    # Pipelines of diffusers 0.31 cannot be made without a VAE.
    parts = {"transformer": transformer, "vae": diffusers.AutoencoderKL()}
    pipeline = pipeline_class(**{**dict.fromkeys(names), **parts})
    with pytest.raises(UnsupportedModelError, match=r"attn1.to_q, attn1.to_k and attn1.to_v \(looked in .*\.unet"):
        apply_patch(pipeline, Settings())
    with pytest.raises(UnsupportedModelError, match="looked in"):
        apply_patch(transformer, Settings())
    assert_no_hooks(transformer)
