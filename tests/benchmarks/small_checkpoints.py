"""Tiny checkpoints with random weights, in the layouts of SD1 and SDXL: as diffusers' folders and as single files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import diffusers
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from tests.unit.small_models import diffusers_unet

_WIDTHS = (16, 24)
"""Channels of the first text encoder and of SDXL's second."""

_XL_UNET = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + _WIDTHS[1],
    "cross_attention_dim": sum(_WIDTHS),
}


def small_pipeline(xl: bool, tokenizer: Path) -> Any:
    """A pipeline of tiny networks whose latent has half the image's side.

    Args:
        tokenizer: an empty folder.
    """
    tokens = _tokenizer(tokenizer)
    unet = diffusers_unet(**(_XL_UNET if xl else {}))
    torch.manual_seed(5)
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 8), norm_num_groups=4, latent_channels=4, layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    scheduler = diffusers.DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, clip_sample=False,
        set_alpha_to_one=False,
    )  # fmt: skip
    parts = {"vae": vae.eval(), "unet": unet, "scheduler": scheduler, "tokenizer": tokens}
    parts["text_encoder"] = CLIPTextModel(_text_config(_WIDTHS[0], len(tokens))).eval()
    if xl:
        second = CLIPTextModelWithProjection(_text_config(_WIDTHS[1], len(tokens))).eval()
        return diffusers.StableDiffusionXLPipeline(**parts, text_encoder_2=second, tokenizer_2=tokens)
    return diffusers.StableDiffusionPipeline(
        **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )


def _text_config(width: int, words: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=words, hidden_size=width, intermediate_size=2 * width, projection_dim=width, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=77, bos_token_id=words - 2, eos_token_id=words - 1,
        pad_token_id=words - 1,
    )  # fmt: skip


def _tokenizer(folder: Path) -> CLIPTokenizer:
    """CLIP's tokenizer with letters for words."""
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "pad_token": "<|endoftext|>"})
    )
    return CLIPTokenizer.from_pretrained(folder)


def save_single_file(pipeline: Any, path: Path) -> None:
    """Writes a pipeline's weights as one file with the names that the original implementations have."""
    state = {f"model.diffusion_model.{_unet_name(key, pipeline)}": value for key, value in _state(pipeline.unet)}
    state |= {f"first_stage_model.{_vae_name(key, pipeline)}": value for key, value in _state(pipeline.vae)}
    text = {f"text_model.{key.removeprefix('text_model.')}": value for key, value in _state(pipeline.text_encoder)}
    xl = hasattr(pipeline, "text_encoder_2")
    prefix = "conditioner.embedders.0.transformer" if xl else "cond_stage_model.transformer"
    state |= {f"{prefix}.{key}": value for key, value in text.items()}
    if xl:
        second = _open_clip(dict(_state(pipeline.text_encoder_2)))
        state |= {f"conditioner.embedders.1.model.{key}": value for key, value in second.items()}
    tensors = {key: value.clone().contiguous() for key, value in state.items()}
    if path.suffix == ".ckpt":
        torch.save({"state_dict": tensors}, path)
    else:
        save_file(tensors, path)


def _state(module: Any) -> Any:
    return module.state_dict().items()


def _unet_name(key: str, pipeline: Any) -> str:
    layers = pipeline.unet.config.layers_per_block
    key = _renamed(key, {
        r"^time_embedding\.linear_(\d)": lambda number: f"time_embed.{2 * (number - 1)}",
        r"^add_embedding\.linear_(\d)": lambda number: f"label_emb.0.{2 * (number - 1)}",
        r"^conv_in": lambda: "input_blocks.0.0",
        r"^conv_norm_out": lambda: "out.0",
        r"^conv_out": lambda: "out.2",
        r"^mid_block\.resnets\.(\d)": lambda number: f"middle_block.{2 * number}",
        r"^mid_block\.attentions\.0": lambda: "middle_block.1",
        r"^down_blocks\.(\d)\.resnets\.(\d)": lambda block, layer: f"input_blocks.{1 + block * (layers + 1) + layer}.0",
        r"^down_blocks\.(\d)\.attentions\.(\d)":
            lambda block, layer: f"input_blocks.{1 + block * (layers + 1) + layer}.1",
        r"^down_blocks\.(\d)\.downsamplers\.0\.conv": lambda block: f"input_blocks.{(block + 1) * (layers + 1)}.0.op",
        r"^up_blocks\.(\d)\.resnets\.(\d)": lambda block, layer: f"output_blocks.{block * (layers + 1) + layer}.0",
        r"^up_blocks\.(\d)\.attentions\.(\d)": lambda block, layer: f"output_blocks.{block * (layers + 1) + layer}.1",
        r"^up_blocks\.(\d)\.upsamplers\.0": lambda block: f"output_blocks.{block * (layers + 1) + layers}.2",
    })  # fmt: skip
    if re.match(r"(input|output)_blocks\.\d+\.0\.|middle_block\.[02]\.", key):
        for new, old in {"norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0",
                         "conv2": "out_layers.3", "time_emb_proj": "emb_layers.1",
                         "conv_shortcut": "skip_connection"}.items():  # fmt: skip
            key = key.replace(new, old)
    return key


def _vae_name(key: str, pipeline: Any) -> str:
    last = len(pipeline.vae.config.block_out_channels) - 1
    key = _renamed(key, {
        r"down_blocks\.(\d)\.resnets\.(\d)": lambda block, layer: f"down.{block}.block.{layer}",
        r"down_blocks\.(\d)\.downsamplers\.0": lambda block: f"down.{block}.downsample",
        r"up_blocks\.(\d)\.resnets\.(\d)": lambda block, layer: f"up.{last - block}.block.{layer}",
        r"up_blocks\.(\d)\.upsamplers\.0": lambda block: f"up.{last - block}.upsample",
        r"mid_block\.resnets\.(\d)": lambda number: f"mid.block_{number + 1}",
        r"mid_block\.attentions\.0\.group_norm": lambda: "mid.attn_1.norm",
        r"mid_block\.attentions\.0\.to_out\.0": lambda: "mid.attn_1.proj_out",
        r"mid_block\.attentions\.0\.to_q": lambda: "mid.attn_1.q",
        r"mid_block\.attentions\.0\.to_k": lambda: "mid.attn_1.k",
        r"mid_block\.attentions\.0\.to_v": lambda: "mid.attn_1.v",
    })  # fmt: skip
    return key.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")


def _renamed(key: str, names: dict[str, Any]) -> str:
    for pattern, name in names.items():
        if found := re.search(pattern, key):
            return key[: found.start()] + name(*map(int, found.groups())) + key[found.end() :]
    return key


def _open_clip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The second text encoder of SDXL, whose original has one matrix for queries, keys and values."""
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        if re.search(r"self_attn\.[kv]_proj", key):
            continue
        if "self_attn.q_proj" in key:
            parts = [state[key.replace("q_proj", f"{part}_proj")] for part in "qkv"]
            key, value = re.sub(r"q_proj\.", "in_proj_", key), torch.cat(parts)
        for new, old in {
            "text_model.encoder.layers.": "transformer.resblocks.", "layer_norm1": "ln_1", "layer_norm2": "ln_2",
            ".fc1.": ".c_fc.", ".fc2.": ".c_proj.", ".self_attn": ".attn", "mlp.c_fc": "mlp.c_fc",
            "text_model.final_layer_norm": "ln_final", "text_model.embeddings.token_embedding": "token_embedding",
            "text_model.embeddings.position_embedding.weight": "positional_embedding",
        }.items():  # fmt: skip
            key = key.replace(new, old)
        if key == "text_projection.weight":
            key, value = "text_projection", value.T
        renamed[key] = value
    return renamed
