"""Code that samplers share."""

from modules import sd_models


class InterruptedException(BaseException):
    pass


def apply_refiner(cfg_denoiser, sigma=None):
    """Loads the refiner when it is time to switch, and returns whether it did."""
    p = cfg_denoiser.p
    info = p.refiner_checkpoint_info
    if info is None or sd_models.model_data.sd_model.sd_checkpoint_info is info:
        return False
    if p.refiner_switch_at is not None and cfg_denoiser.step / cfg_denoiser.total_steps < p.refiner_switch_at:
        return False
    sd_models.reload_model_weights(info=info)
    return True
