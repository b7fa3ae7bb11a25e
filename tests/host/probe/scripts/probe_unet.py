"""A UNet of another engine for A1111, as a TensorRT engine is one: the option 'SD Unet' names it 'ToDo probe'. It
computes what the model's own UNet does, in modules that nobody else knows."""

from copy import deepcopy

from modules import script_callbacks, shared

try:
    from modules import sd_unet
except ImportError:  # the Forge family has no such option
    sd_unet = None


def engine():
    class Engine(sd_unet.SdUnet):
        def activate(self):
            # In a list, so that it is no module of this one.
            self.copy = [deepcopy(shared.sd_model.model.diffusion_model)]
            for module in self.copy[0].modules():
                module._forward_pre_hooks.clear()
                module._forward_hooks.clear()

        def forward(self, x, timesteps, context, *args, **kwargs):
            # The copy's class asks the host for an engine, too.
            sd_unet.current_unet = None
            try:
                return self.copy[0](x, timesteps, context, *args, **kwargs)
            finally:
                sd_unet.current_unet = self

    return Engine()


def add_option(options):
    option = sd_unet.SdUnetOption()
    option.label = "ToDo probe"
    option.create_unet = engine
    options.append(option)


if sd_unet is not None and hasattr(script_callbacks, "on_list_unets"):
    script_callbacks.on_list_unets(add_option)
