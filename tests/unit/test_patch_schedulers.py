"""A patch on a pipeline learns from the scheduler where sampling stands: every scheduler of diffusers that a UNet
pipeline takes, each call compared with the calls that were counted."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch

from tests.unit.test_diffusers_pipelines import INPUT_IMAGE, PLAIN, Kind, generate, make
from tests.unit.test_hot_path import Operations
from todo import Settings, patched

IMAGE_TO_IMAGE = Kind("StableDiffusionImg2ImgPipeline", {"image": INPUT_IMAGE})
WINDOW = Settings(factor=2, end=0.5)

SCHEDULERS = [
    "DDIMScheduler", "DDIMParallelScheduler", "DDPMScheduler", "DDPMParallelScheduler", "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "EDMDPMSolverMultistepScheduler",
    "EDMEulerScheduler", "EulerAncestralDiscreteScheduler", "EulerDiscreteScheduler", "HeunDiscreteScheduler",
    "IPNDMScheduler", "KDPM2AncestralDiscreteScheduler", "KDPM2DiscreteScheduler", "LCMScheduler",
    "LMSDiscreteScheduler", "PNDMScheduler", "SASolverScheduler", "TCDScheduler", "UniPCMultistepScheduler",
]  # fmt: skip


def scheduler(name: str) -> Any:
    made = getattr(diffusers, name)
    own = {"skip_prk_steps": True} if name == "PNDMScheduler" else {}
    return made(**own)


class Calls:
    """The patch's point of sampling at each call of the UNet."""

    def __init__(self, pipeline: Any, patch: Any = None):
        self.moments: list[Any] = []
        self._unet, self._patch = pipeline.unet, patch

    def __enter__(self) -> Calls:
        self._handle = self._unet.register_forward_hook(
            lambda *_: self.moments.append(self._patch and self._patch.moment)
        )
        return self

    def __exit__(self, *error: Any) -> None:
        self._handle.remove()


def check(pipeline: Any, patch: Any, kind: Kind, **call: Any) -> None:
    """The calls of a run are its steps 0, 1, 2, … out of as many as there were."""
    with Calls(pipeline, patch) as calls:
        generate(pipeline, kind, **call)
    count = len(calls.moments)
    assert [moment.step for moment in calls.moments] == list(range(count))
    assert [moment.progress for moment in calls.moments] == pytest.approx([each / count for each in range(count)])


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler(name):
    pipeline = make(PLAIN, lambda: scheduler(name))
    with patched(pipeline, WINDOW) as patch:
        check(pipeline, patch, PLAIN, num_inference_steps=6)
        row = patch.report()[0]
        assert abs(2 * row.downsampled - row.calls) <= 1, "half of the calls"
        check(pipeline, patch, PLAIN, num_inference_steps=3)


@pytest.mark.parametrize("name", [name for name in SCHEDULERS if hasattr(getattr(diffusers, name), "add_noise")])
def test_every_scheduler_from_an_image(name):
    """Image-to-image begins in the middle; each run is a run of its own, whatever was made before."""
    pipeline = make(IMAGE_TO_IMAGE, lambda: scheduler(name))
    with patched(pipeline, WINDOW) as patch:
        for steps, strength in ((2, 1.0), (4, 0.25), (8, 0.5), (8, 0.5)):
            check(pipeline, patch, IMAGE_TO_IMAGE, num_inference_steps=steps, strength=strength)


@pytest.mark.parametrize("name", ["EulerDiscreteScheduler", "DDIMScheduler", "PNDMScheduler", "LCMScheduler"])
def test_an_image_does_not_depend_on_the_one_before(name):
    def image(pipeline, steps, strength, **more):
        return generate(pipeline, IMAGE_TO_IMAGE, num_inference_steps=steps, strength=strength, **more)

    pipeline = make(IMAGE_TO_IMAGE, lambda: scheduler(name))
    settings = Settings(factor=2)
    with patched(pipeline, settings):
        alone = image(pipeline, 4, 0.25)
    with patched(pipeline, settings):
        image(pipeline, 2, 1.0)
        assert torch.equal(image(pipeline, 4, 0.25), alone)

    def interrupt(pipe, step, timestep, values):
        if step == 1:
            raise InterruptedError
        return values

    with patched(pipeline, settings):
        with pytest.raises(InterruptedError):
            image(pipeline, 8, 1.0, callback_on_step_end=interrupt)
        assert torch.equal(image(pipeline, 4, 0.25), alone)


def test_a_scheduler_that_is_replaced_is_followed():
    pipeline = make(PLAIN, lambda: scheduler("EulerDiscreteScheduler"))
    with patched(pipeline, WINDOW) as patch:
        check(pipeline, patch, PLAIN, num_inference_steps=4)
        pipeline.scheduler = scheduler("HeunDiscreteScheduler")
        check(pipeline, patch, PLAIN, num_inference_steps=4)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_no_scheduler_is_waited_for(name):
    """A timestep is a view of the scheduler's, and its place there says which step it is: nothing is read."""

    def reads() -> int:
        with Operations() as operations:
            generate(pipeline, num_inference_steps=4)
        return operations.counts["aten._local_scalar_dense.default"]

    pipeline = make(PLAIN, lambda: scheduler(name))
    dense = reads()
    with patched(pipeline, WINDOW):
        assert reads() == dense
