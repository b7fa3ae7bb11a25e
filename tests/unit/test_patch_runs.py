"""A patch knows the step of each run: by the timesteps that it sees, or by `at`, which holds for the run that it is
called in."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import diffusers
import pytest
import torch

from tests.unit.small_models import assert_no_hooks, diffusers_unet, inputs, run
from tests.unit.test_diffusers_pipelines import PLAIN, SDXL, Kind, generate, make
from tests.unit.test_patch_schedulers import Calls, check, scheduler
from todo import Settings, apply_patch, patched

HALF = Settings(factor=2, end=0.5)
CYCLE = Settings(factor=2)


def euler() -> Any:
    return scheduler("EulerDiscreteScheduler")


def acting(patch) -> list[int]:
    """How many calls there were, and how many of them were downsampled."""
    row = patch.report()[0]
    return [row.calls, row.downsampled]


# --- a run is recognised by what it does


@pytest.mark.parametrize("name", ["EulerDiscreteScheduler", "DDIMScheduler", "HeunDiscreteScheduler", "LCMScheduler"])
@pytest.mark.parametrize("first_steps", [8, 5])
def test_a_pipeline_for_each_request_on_one_unet(name, first_steps):
    """Each with its own scheduler, of which only the first one's is known."""
    first = make(PLAIN, euler)
    second = make(PLAIN, lambda: scheduler(name), unet=first.unet)
    with patched(first, HALF) as patch:
        generate(first, num_inference_steps=first_steps)
        before = acting(patch)
        with Calls(second, patch) as calls:
            generate(second, num_inference_steps=8)
        count, on = (now - earlier for now, earlier in zip(acting(patch), before, strict=True))
        assert abs(2 * on - count) <= 2, "about half of the calls"
        steps = [moment.step for moment in calls.moments]
        assert steps[0] == 0
        assert steps == sorted(steps)
        assert len(set(steps)) >= 7, "the pattern moves"


def test_a_request_does_not_depend_on_the_one_before():
    first = make(PLAIN, euler)
    second = make(PLAIN, euler, unet=first.unet)
    with patched(first, CYCLE):
        alone = generate(second, num_inference_steps=6)
    with patched(first, CYCLE):
        generate(first, num_inference_steps=3)
        assert torch.equal(generate(second, num_inference_steps=6), alone)


PANORAMA = Kind("StableDiffusionPanoramaPipeline", {"height": 512, "width": 640})
"""Three views of 64 by 64."""


@pytest.mark.parametrize("name", ["EulerDiscreteScheduler", "DDIMScheduler", "DPMSolverMultistepScheduler"])
def test_a_panorama_copies_the_schedulers_state_for_each_view(name):
    pipeline = make(PANORAMA, lambda: scheduler(name))
    with patched(pipeline, HALF) as patch, Calls(pipeline, patch) as calls:
        generate(pipeline, PANORAMA, num_inference_steps=8)
        assert [moment.step for moment in calls.moments] == [step for step in range(8) for _ in range(3)]
        assert acting(patch) == [24, 12]


def loop(pipeline: Any, timesteps: Any) -> None:
    for timestep in timesteps:
        run(pipeline.unet, (inputs(16, 24)[0], timestep, inputs(16, 24)[2]))


@pytest.mark.parametrize("copied", [False, True])
def test_a_run_backwards(copied):
    """As inversion does: from the last timestep to the first."""
    pipeline = make(PLAIN, euler)
    pipeline.scheduler.set_timesteps(8)
    timesteps = pipeline.scheduler.timesteps.clone() if copied else pipeline.scheduler.timesteps
    with patched(pipeline, HALF) as patch, Calls(pipeline, patch) as calls:
        loop(pipeline, reversed(list(timesteps)))
        assert [moment.step for moment in calls.moments] == list(range(8))
        assert acting(patch) == [8, 4]


def test_an_inverse_scheduler_drives_its_own_run():
    pipeline = make(PLAIN, lambda: scheduler("DDIMScheduler"))
    pipeline.inverse_scheduler = diffusers.DDIMInverseScheduler()
    for each in (pipeline.scheduler, pipeline.inverse_scheduler):
        each.set_timesteps(8)
    with patched(pipeline, HALF) as patch, Calls(pipeline, patch) as calls:
        loop(pipeline, pipeline.inverse_scheduler.timesteps)
        loop(pipeline, pipeline.scheduler.timesteps)
    assert [moment.step for moment in calls.moments] == 2 * list(range(8))
    assert [moment.progress for moment in calls.moments] == pytest.approx(2 * [each / 8 for each in range(8)])


def test_a_bare_unet_that_is_run_backwards():
    unet = diffusers_unet()
    with patched(unet, HALF) as patch:
        moments = []
        for timestep in (1, 126, 251, 376, 501, 626, 751, 876):
            run(unet, inputs(16, 24, timestep=timestep))
            moments.append(patch.moment)
        assert [moment.step for moment in moments] == list(range(8))
        assert acting(patch) == [8, 4]
        run(unet, inputs(16, 24, timestep=751))
        assert patch.moment.step == 0, "another run"


XL = Kind("StableDiffusionXLPipeline", {"height": 16, "width": 24}, SDXL)
XL_FROM_IMAGE = Kind("StableDiffusionXLImg2ImgPipeline", {"image": torch.rand(1, 3, 16, 24), "strength": 0.5}, SDXL)


@pytest.mark.parametrize("name", ["EulerDiscreteScheduler", "DDIMScheduler"])
@pytest.mark.parametrize("denoising_end", [0.5, 0.75])
def test_a_run_that_ends_before_its_last_timestep(name, denoising_end):
    """SDXL's base model leaves the last steps to the refiner."""
    pipeline = make(XL, lambda: scheduler(name))
    with patched(pipeline, HALF) as patch:
        check(pipeline, patch, XL, num_inference_steps=8, denoising_end=denoising_end)
        count, on = acting(patch)
        assert (count, on) == (8 * denoising_end, 4 * denoising_end)
        check(pipeline, patch, XL, num_inference_steps=8)


def test_a_refiner_that_begins_within_the_schedule():
    pipeline = make(XL_FROM_IMAGE, lambda: scheduler("EulerDiscreteScheduler"))
    with patched(pipeline, HALF) as patch:
        check(pipeline, patch, XL_FROM_IMAGE, num_inference_steps=8, denoising_start=0.5)
        assert acting(patch) == [4, 2]


# --- `at` holds for the run that it is called in


def with_callback(pipeline, patch, steps: int = 6, begin: bool = False, **call: Any) -> torch.Tensor:
    """A run whose callback tells each step, as in the README."""

    def tell(pipe, step, timestep, values):
        patch.at(step + 1, steps)
        return values

    if begin:
        patch.at(0, steps)
    return generate(pipeline, num_inference_steps=steps, callback_on_step_end=tell, **call)


def test_told_in_one_thread_and_sampled_in_a_pool():
    pipeline = make(PLAIN, euler)
    with patched(pipeline, CYCLE):
        expected = generate(pipeline, num_inference_steps=6)
    with patched(pipeline, CYCLE) as patch, ThreadPoolExecutor(1) as pool, ThreadPoolExecutor(1) as other:
        patch.at(0, 1)
        for each in (pool, pool, other, pool):
            assert torch.equal(each.submit(with_callback, pipeline, patch).result(), expected)
        for each in (pool, other):
            assert torch.equal(each.submit(generate, pipeline, num_inference_steps=6).result(), expected)
        patch.at(0, 1)
        assert torch.equal(pool.submit(with_callback, pipeline, patch).result(), expected)


@pytest.mark.parametrize("begin", [True, False])
def test_a_run_without_the_callback_after_one_with_it(begin):
    pipeline = make(PLAIN, euler)
    with patched(pipeline, CYCLE) as patch:
        expected = generate(pipeline, num_inference_steps=6)
        assert torch.equal(with_callback(pipeline, patch, begin=begin), expected)
        check(pipeline, patch, PLAIN, num_inference_steps=6)
        assert torch.equal(with_callback(pipeline, patch, begin=begin), expected)
        check(pipeline, patch, PLAIN, num_inference_steps=4)


def test_what_was_told_once_ends_with_the_run():
    pipeline = make(PLAIN, euler)
    with patched(pipeline, CYCLE) as patch:
        patch.at(2, 5)
        with Calls(pipeline, patch) as calls:
            generate(pipeline, num_inference_steps=4)
        assert {moment.step for moment in calls.moments} == {2}
        check(pipeline, patch, PLAIN, num_inference_steps=4)


def test_calls_after_the_last_step_belong_to_its_run():
    """Some samplers make one, at the timestep of the last step or below."""
    unet = diffusers_unet()
    with patched(unet, CYCLE) as patch:
        for step, timestep in enumerate((999, 600, 300, 1)):
            patch.at(step, 3)
            run(unet, inputs(16, 24, timestep=timestep))
            assert (patch.moment.step, patch.moment.progress) == (step, step / 3)
        run(unet, inputs(16, 24, timestep=999))
        assert patch.moment.step == 0, "another run, which nobody tells"


def test_threads_that_tell_their_own_steps_do_not_see_each_others():
    unet = diffusers_unet()
    with patched(unet, CYCLE) as patch, ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:

        def tell(step):
            patch.at(step, 8)
            run(unet, inputs(16, 24, timestep=999 - 100 * step))

        def moment(timestep):
            run(unet, inputs(16, 24, timestep=timestep))
            return patch.moment

        for step in range(4):
            one.submit(tell, step).result()
        assert other.submit(moment, 999).result().step == 0
        assert other.submit(moment, 500).result().step == 1
        assert one.submit(moment, 700).result().step == 3


@pytest.mark.parametrize(
    ("step", "steps", "wrong"),
    [
        (float("nan"), 4, "step"),
        (2.5, 4, "step"),
        ("2", 4, "step"),
        (2, 4.0, "steps"),
        (None, 4, "step"),
        (1, None, "steps"),
    ],
)  # fmt: skip
def test_at_takes_whole_numbers(diffusers_unet, step, steps, wrong):
    with patched(diffusers_unet, CYCLE) as patch:
        patch.at(1, 4)
        with pytest.raises(TypeError, match=rf"^at: {wrong} must be a whole number, not "):
            patch.at(step, steps)
        assert patch.moment.step == 1


def test_at_takes_what_is_a_whole_number(diffusers_unet):
    with patched(diffusers_unet, CYCLE) as patch:
        patch.at(torch.tensor(2), True + 7)
        assert (patch.moment.step, patch.moment.progress) == (2, 0.25)


# --- overlapping blocks


def overlapping(unet, *leaving: str) -> list[float]:
    """Enters blocks A, B, … in turn, each in a thread of its own, and leaves them in the order given. The ratios that
    are on in between; 1 for none."""
    patches, leave = {}, {}

    def block(name: str, number: int, entered: threading.Event) -> None:
        with patched(unet, Settings(factor=2 + number)) as patch:
            patches[name] = patch
            entered.set()
            leave[name].wait(60)

    threads = {}
    for number, name in enumerate(sorted(leaving)):
        leave[name], entered = threading.Event(), threading.Event()
        threads[name] = threading.Thread(target=block, args=(name, number, entered))
        threads[name].start()
        assert entered.wait(60)
    ratios = []
    for name in leaving:
        on = [patch.settings.factor for patch in patches.values() if patch.attached]
        assert len(on) <= 1
        ratios += on or [1]
        leave[name].set()
        threads[name].join()
    return ratios


@pytest.mark.parametrize(
    ("leaving", "ratios"),
    [("BA", [3, 2]), ("AB", [3, 3]), ("CBA", [4, 3, 2]), ("ABC", [4, 4, 4]), ("BCA", [4, 4, 2]), ("ACB", [4, 4, 3])],
)
def test_overlapping_blocks_leave_nothing(diffusers_unet, leaving, ratios):
    """A patch comes back only as long as its own block lasts."""
    assert overlapping(diffusers_unet, *leaving) == ratios
    assert_no_hooks(diffusers_unet)


def test_a_patch_that_was_there_before_overlapping_blocks(diffusers_unet):
    patch = apply_patch(diffusers_unet, CYCLE)
    overlapping(diffusers_unet, "A", "B")
    assert patch.attached
    patch.remove()
