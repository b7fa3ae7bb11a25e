"""State that everything shares."""

from argparse import Namespace


class State:
    def __init__(self):
        self.interrupted = False
        self.skipped = False
        self.stopping_generation = False
        self.sampling_step = 0
        self.sampling_steps = 0

    def interrupt(self):
        self.interrupted = True

    def skip(self):
        self.skipped = True

    def begin(self, job="(unknown)"):
        self.__init__()


state = State()
cmd_opts = Namespace(loglevel=None)
opts = Namespace(batch_cond_uncond=True, sd_model_checkpoint=None)


def __getattr__(name):
    if name != "sd_model":
        raise AttributeError(name)
    from modules import sd_models

    # Reading it loads a checkpoint where there is none yet.
    return sd_models.model_data.get_sd_model()
