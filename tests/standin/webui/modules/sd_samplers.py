"""Samplers. They differ in how often they call the denoiser for n steps, and in the total they announce."""

from collections import namedtuple

import torch

from modules import shared
from modules.sd_samplers_cfg_denoiser import CFGDenoiser
from modules.sd_samplers_common import InterruptedException

_Kind = namedtuple("_Kind", ["calls", "announced"])

_KINDS = {
    "Euler": _Kind(lambda n: n, lambda n: n),
    "Heun": _Kind(lambda n: 2 * n - 1, lambda n: 2 * n),  # the last step needs no second call
    "DPM adaptive": _Kind(lambda n: 3 * n, lambda n: n),
    "DDIM": _Kind(lambda n: n + 1, lambda n: n),
}


def create_sampler(name, model):
    return Sampler(_KINDS[name])


class Sampler:
    def __init__(self, kind):
        self.kind = kind
        self.model_wrap_cfg = CFGDenoiser(self)
        self.last_latent = None

    def initialize(self, p):
        self.model_wrap_cfg.p = p
        self.model_wrap_cfg.step = 0

    def sample(self, p, x, conditioning, unconditional_conditioning, steps=None, image_conditioning=None):
        return self._run(p, x, conditioning, unconditional_conditioning, steps or p.steps)

    def sample_img2img(
        self, p, x, noise, conditioning, unconditional_conditioning, steps=None, image_conditioning=None
    ):
        # The denoising strength decides how many of the steps are run, plus one.
        run = int(min(p.denoising_strength, 0.999) * (steps or p.steps)) + 1
        return self._run(p, x + noise * p.denoising_strength, conditioning, unconditional_conditioning, run)

    def _run(self, p, x, cond, uncond, steps):
        self.initialize(p)
        self.model_wrap_cfg.steps = steps
        self.model_wrap_cfg.total_steps = self.kind.announced(steps)
        shared.state.sampling_steps = steps
        self.last_latent = x
        calls = self.kind.calls(steps)
        try:
            for call in range(calls):
                sigma = torch.full((len(x),), 999.0 * (1 - call / calls))
                out = self.model_wrap_cfg(self.last_latent, sigma, uncond, cond, p.cfg_scale, 0.0, None)
                self.last_latent = self.last_latent - out / calls
        except InterruptedException:
            pass
        return self.last_latent
