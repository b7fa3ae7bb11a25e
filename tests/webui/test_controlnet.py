"""ControlNets that run with the UNet are found on each host."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.standin import models
from tests.unit.small_models import assert_no_hooks, hook_counts, ldm_unet

FACTOR_2 = {"factor": 2}


@pytest.fixture
def network():
    """A control network. All that matters here is that it is built like the UNet."""
    network = ldm_unet()
    yield network
    assert_no_hooks(network)


def hooked_at_each_step(host, network, *args, **fields):
    seen = []
    host.script_callbacks.on_cfg_denoiser(lambda _: seen.append(bool(hook_counts(network))))
    host.generate(*args, **fields)
    return seen


@pytest.fixture
def extension(host, monkeypatch, network):
    """A stand-in for the script of sd-webui-controlnet, with three units: one with a network, one without
    (reference_only) and one with another kind of network (an adapter)."""
    units = [SimpleNamespace(control_model=SimpleNamespace(control_model=network))]
    units += [SimpleNamespace(control_model=None), SimpleNamespace(control_model=object())]
    script = SimpleNamespace(latest_network=SimpleNamespace(control_params=units))
    for event in ("before_process", "process", "process_batch", "process_before_every_sampling", "before_hr"):
        setattr(script, event, lambda *args, **kwargs: None)

    class Runner:
        """The host's runner with an additional script in its list, which it does not call."""

        def __init__(self):
            self.alwayson_scripts = [script]

        def __getattr__(self, name):
            return getattr(host.scripts.scripts_txt2img, name)

    made = host.p

    def p(*args, **fields):
        made_p = made(*args, **fields)
        made_p.scripts = Runner()
        return made_p

    monkeypatch.setattr(host, "p", p, raising=False)
    return script


def test_a_controlnet_of_the_extension_is_patched(host, extension, network):
    assert hooked_at_each_step(host, network, FACTOR_2) == [True] * 4


def test_a_disabled_controlnet_of_the_extension_is_left_alone(host, extension, network):
    extension.latest_network.control_params = None
    assert hooked_at_each_step(host, network, FACTOR_2) == [False] * 4
    extension.latest_network = None
    assert hooked_at_each_step(host, network, FACTOR_2) == [False] * 4


def test_the_setting_leaves_controlnets_alone(host, extension, network):
    assert hooked_at_each_step(host, network, {**FACTOR_2, "controlnet": False}) == [False] * 4
    assert hooked_at_each_step(host, network) == [False] * 4


def test_a_controlnet_in_the_first_pass_only(host, extension, network):
    host.script_callbacks.on_cfg_denoiser(
        lambda params: params.denoiser.p.is_hr_pass and setattr(extension, "latest_network", None)
    )
    on = hooked_at_each_step(host, network, FACTOR_2, enable_hr=True)
    assert on[:4] == [True] * 4
    assert on[5:] == [False] * len(on[5:])


def test_a_controlnet_of_the_forge_family_is_patched(host, network):
    model = models.ForgeModel(ldm_unet())
    last = SimpleNamespace(control_model=None, previous_controlnet=SimpleNamespace(control_model=network))
    model.forge_objects.unet.controlnet_linked_list = last
    host.add_checkpoint("forge", lambda: model)
    host.use_checkpoint("forge")
    assert hooked_at_each_step(host, network, FACTOR_2) == [True] * 4
    model.forge_objects.unet.controlnet_linked_list = None
    assert hooked_at_each_step(host, network, FACTOR_2) == [False] * 4
