"""The checkpoints and the loaded model. `factories` stands for the files: it creates the models."""

from modules import shared

checkpoints_list = {}
factories = {}


class CheckpointInfo:
    def __init__(self, filename):
        self.title = self.short_title = self.name_for_extra = filename


class SdModelData:
    def __init__(self):
        self.sd_model = None
        self.loaded_sd_models = []
        self.was_loaded_at_least_once = False

    def get_sd_model(self):
        if self.sd_model is None and not self.was_loaded_at_least_once:
            load_model()
        return self.sd_model

    def set_sd_model(self, v, already_loaded=False):
        self.sd_model = v


model_data = SdModelData()


def load_model(checkpoint_info=None, already_loaded_state_dict=None):
    info = checkpoint_info or select_checkpoint()
    model = factories[info.title]()
    model.sd_checkpoint_info = info
    model_data.was_loaded_at_least_once = True
    model_data.set_sd_model(model)
    return model


def select_checkpoint():
    return checkpoints_list[shared.opts.sd_model_checkpoint]


def reload_model_weights(sd_model=None, info=None, forced_reload=False):
    info = info or select_checkpoint()
    loaded = model_data.sd_model
    if getattr(loaded, "sd_checkpoint_info", None) is info and not forced_reload:
        return loaded
    # The host frees the old weights before it loads the new ones.
    model_data.set_sd_model(None)
    del loaded, sd_model
    return load_model(info)
