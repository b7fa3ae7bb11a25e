"""The denoiser. It calls the UNet for prompt and negative prompt, in one call or in two."""

from types import SimpleNamespace

import torch

from modules import shared
from modules.script_callbacks import CFGDenoiserParams, cfg_after_cfg_callback, cfg_denoiser_callback
from modules.sd_samplers_common import InterruptedException, apply_refiner


class CFGDenoiser(torch.nn.Module):
    def __init__(self, sampler):
        super().__init__()
        self.sampler = sampler
        self.p = None
        self.step = 0
        self.steps = None
        self.total_steps = None

    def forward(self, x, sigma, uncond, cond, cond_scale, s_min_uncond, image_cond):
        if shared.state.interrupted or shared.state.skipped:
            raise InterruptedException
        apply_refiner(self, sigma)
        both, sigmas = torch.cat([x, x]), torch.cat([sigma, sigma])
        texts = torch.cat([cond, uncond])
        state = shared.state
        params = CFGDenoiserParams(
            both, image_cond, sigmas, state.sampling_step, state.sampling_steps, cond, uncond, self
        )
        cfg_denoiser_callback(params)
        model = shared.sd_model
        parts = [slice(None)] if shared.opts.batch_cond_uncond else [slice(0, len(x)), slice(len(x), None)]
        out = torch.cat([model.apply_model(params.x[part], sigmas[part], texts[part]) for part in parts])
        with_text, without = out.chunk(2)
        self.step += 1
        result = without + (with_text - without) * cond_scale
        cfg_after_cfg_callback(SimpleNamespace(x=result))
        return result
