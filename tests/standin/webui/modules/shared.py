"""Global state of the host."""

from argparse import Namespace


class State:
    def __init__(self):
        self.interrupted = False
        self.skipped = False
        self.stopping_generation = False
        self.sampling_step = 0
        self.sampling_steps = 0
        self.job = ""
        self.job_no = 0
        self.textinfo = None
        self.job_count = -1

    def interrupt(self):
        self.interrupted = True

    def stop_generating(self):
        self.stopping_generation = True

    def skip(self):
        self.skipped = True

    def begin(self, job="(unknown)"):
        self.__init__()
        self.job = job

    def end(self):
        self.job = ""

    def nextjob(self):
        self.job_no += 1


state = State()
cmd_opts = Namespace(loglevel=None)
opts = Namespace(
    batch_cond_uncond=True,
    sd_model_checkpoint=None,
    return_mask=False,
    return_mask_composite=False,
    enable_pnginfo=True,
    grid_save=True,
    grid_format="png",
    grid_extended_filename=False,
)


def __getattr__(name):
    if name != "sd_model":
        raise AttributeError(name)
    from modules import sd_models

    # Reading it loads a checkpoint if none is loaded yet.
    return sd_models.model_data.get_sd_model()
