"""A UNet of another engine for A1111, like TensorRT. It appears as 'ToDo probe' in the option 'SD Unet'.

It computes the same as the model's own UNet, but with modules that extensions cannot find.
"""

from copy import deepcopy

from modules import script_callbacks, shared

try:
    from modules import sd_unet
except ImportError:  # the Forge family has no such option
    sd_unet = None


def engine():
    class Engine(sd_unet.SdUnet):
        def activate(self):
            # In a list, so that it does not become a submodule of this module.
            self.copy = [deepcopy(shared.sd_model.model.diffusion_model)]
            for module in self.copy[0].modules():
                module._forward_pre_hooks.clear()
                module._forward_hooks.clear()

        def forward(self, x, timesteps, context, *args, **kwargs):
            # Turned off meanwhile, because the copy would call the engine, too.
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
