"""A generation from beginning to end, which calls the scripts in the host's order.

An image shows its latent, and keeps it in the attribute `latent`.
"""

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from modules import paths, scripts, sd_models, sd_samplers, shared
from modules.infotext_utils import quote

opt_C = 4  # noqa: N816
opt_f = 8


@dataclass(repr=False)
class StableDiffusionProcessing:
    prompt: str = ""
    negative_prompt: str = ""
    seed: int = -1
    sampler_name: str = "Euler"
    batch_size: int = 1
    n_iter: int = 1
    steps: int = 4
    cfg_scale: float = 1.5
    width: int = 128
    height: int = 128
    extra_generation_params: dict[str, Any] = None
    denoising_strength: float = 0.7
    override_settings: dict[str, Any] = None
    refiner_checkpoint_info: Any = None
    refiner_switch_at: float = None
    sd_model: Any = None
    comments: dict = None
    do_not_save_samples: bool = False
    do_not_save_grid: bool = False
    outpath_grids: str = "grids"
    sampler: Any = field(default=None, init=False)
    is_hr_pass: bool = field(default=False, init=False)
    iteration: int = field(default=0, init=False)

    def __post_init__(self):
        self.comments = {}
        self.extra_generation_params = self.extra_generation_params or {}
        self.override_settings = self.override_settings or {}
        self.scripts = None
        self.script_args = []

    def setup_prompts(self):
        count = self.batch_size * self.n_iter
        self.all_prompts = self.prompt if isinstance(self.prompt, list) else [self.prompt] * count
        self.all_negative_prompts = [self.negative_prompt] * count

    def init(self, all_prompts, all_seeds, all_subseeds):
        pass

    def close(self):
        self.sampler = None

    def comment(self, text):
        self.comments[text] = 1

    def noise(self, height, width):
        seeds = self.all_seeds[self.iteration * self.batch_size :][: self.batch_size]
        return torch.cat([_random(seed, 1, opt_C, height, width) for seed in seeds])

    def setup_conds(self):
        self.c, self.uc = (_random(seed, 1, 7, 16).repeat(self.batch_size, 1, 1) for seed in (1, 2))

    def sample(self, conditioning, unconditional_conditioning, seeds, subseeds, subseed_strength, prompts):
        raise NotImplementedError


@dataclass(repr=False)
class StableDiffusionProcessingTxt2Img(StableDiffusionProcessing):
    enable_hr: bool = False
    hr_scale: float = 2.0
    hr_upscale_to_x: int = 0
    hr_upscale_to_y: int = 0
    hr_second_pass_steps: int = 0
    hr_checkpoint_info: Any = None

    def init(self, all_prompts, all_seeds, all_subseeds):
        self.hr_upscale_to_x, self.hr_upscale_to_y = int(self.width * self.hr_scale), int(self.height * self.hr_scale)

    def sample(self, conditioning, unconditional_conditioning, seeds, subseeds, subseed_strength, prompts):
        self.sampler = sd_samplers.create_sampler(self.sampler_name, shared.sd_model)
        x = self.noise(self.height // opt_f, self.width // opt_f)
        self.scripts.process_before_every_sampling(self, x=x, noise=x, c=conditioning, uc=unconditional_conditioning)
        samples = self.sampler.sample(self, x, conditioning, unconditional_conditioning)
        if not self.enable_hr:
            return samples
        sd_models.reload_model_weights(info=self.hr_checkpoint_info)
        return self.sample_hr_pass(samples, None, seeds, subseeds, subseed_strength, prompts)

    def sample_hr_pass(self, samples, decoded_samples, seeds, subseeds, subseed_strength, prompts):
        if shared.state.interrupted:
            return samples
        self.is_hr_pass = True
        self.sampler = sd_samplers.create_sampler(self.sampler_name, shared.sd_model)
        samples = torch.nn.functional.interpolate(samples, scale_factor=self.hr_scale)
        noise = self.noise(*samples.shape[-2:])
        self.scripts.before_hr(self)
        self.scripts.process_before_every_sampling(self, x=samples, noise=noise, c=self.c, uc=self.uc)
        steps = self.hr_second_pass_steps or self.steps
        samples = self.sampler.sample_img2img(self, samples, noise, self.c, self.uc, steps=steps)
        self.is_hr_pass = False
        return samples


@dataclass(repr=False)
class StableDiffusionProcessingImg2Img(StableDiffusionProcessing):
    init_images: list = None

    def sample(self, conditioning, unconditional_conditioning, seeds, subseeds, subseed_strength, prompts):
        self.sampler = sd_samplers.create_sampler(self.sampler_name, shared.sd_model)
        noise = self.noise(self.height // opt_f, self.width // opt_f)
        start = _random(5, *noise.shape)
        self.scripts.process_before_every_sampling(
            self, x=start, noise=noise, c=conditioning, uc=unconditional_conditioning
        )
        return self.sampler.sample_img2img(self, start, noise, conditioning, unconditional_conditioning)


class Processed:
    def __init__(self, p, images_list, seed=-1, info="", infotexts=None):
        self.images = images_list
        self.index_of_first_image = 0
        self.all_seeds, self.all_subseeds, self.all_prompts = p.all_seeds, p.all_subseeds, p.all_prompts
        self.seed = self.subseed = seed
        self.info = info
        self.comments = "".join(f"{comment}\n" for comment in p.comments)
        self.extra_generation_params = p.extra_generation_params
        self.infotexts = infotexts or [info]


def create_infotext(p):
    values = {"Steps": p.steps, "Sampler": p.sampler_name, "CFG scale": p.cfg_scale, "Seed": p.seed}
    values |= {"Size": f"{p.width}x{p.height}", **p.extra_generation_params}
    line = ", ".join(f"{key}: {quote(value)}" for key, value in values.items() if value is not None)
    return f"{p.prompt}\nNegative prompt: {p.negative_prompt}\n{line}"


def process_images(p):
    p.scripts.before_process(p)
    sd_models.reload_model_weights()
    return process_images_inner(p)


def process_images_inner(p):
    first = random.randrange(2**31) if p.seed == -1 else p.seed
    p.setup_prompts()
    p.all_seeds = [first + index for index in range(len(p.all_prompts))]
    p.all_subseeds = list(p.all_seeds)
    p.scripts.process(p)
    images, infotexts = [], []
    with torch.no_grad():
        p.init(p.all_prompts, p.all_seeds, p.all_subseeds)
        if shared.state.job_count == -1:
            shared.state.job_count = p.n_iter
        for n in range(p.n_iter):
            p.iteration = n
            shared.state.skipped = False
            if shared.state.interrupted or shared.state.stopping_generation:
                break
            sd_models.reload_model_weights()
            (Path(paths.data_path) / "params.txt").write_text(create_infotext(p), encoding="utf8")
            p.scripts.process_batch(p, batch_number=n, prompts=[], seeds=[], subseeds=[])
            p.setup_conds()
            samples = p.sample(p.c, p.uc, [], [], 0, [])
            shared.state.nextjob()
            p.scripts.postprocess_batch(p, samples, batch_number=n)
            for latent in samples:
                pp = scripts.PostprocessImageArgs(to_image(latent))
                p.scripts.postprocess_image(p, pp)
                images.append(pp.image)
                infotexts.append(create_infotext(p))
    result = Processed(p, images, p.seed, infotexts[0] if infotexts else create_infotext(p), infotexts)
    p.scripts.postprocess(p, result)
    return result


def to_image(latent):
    colours = ((latent[:3] + 3) / 6).clamp(0, 1).mul(255).round().to(torch.uint8)
    image = Image.fromarray(colours.permute(1, 2, 0).numpy())
    image.latent = latent
    return image


def _random(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed % 2**32))
