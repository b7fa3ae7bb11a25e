"""A patch whose `at` is never called derives the point of sampling from the timestep."""

from __future__ import annotations

import itertools

import pytest
import torch

from tests.unit.small_models import inputs, level_inputs, run
from todo import Settings, patched

CYCLE = Settings(factor=2)


def sample(unet, timesteps, grid=(16, 24), seed=7) -> list[torch.Tensor]:
    return [run(unet, inputs(*grid, timestep=timestep, seed=seed)) for timestep in timesteps]


def sample_with_at(unet, settings, steps: list[tuple[float, int, int]]) -> list[torch.Tensor]:
    """The outputs at (timestep, step, steps) of a patch whose `at` is called before each step."""
    with patched(unet, settings) as patch:
        outputs = []
        for timestep, step, of in steps:
            patch.at(step, of)
            outputs += sample(unet, [timestep])
    return outputs


def equal(ones: list[torch.Tensor], others: list[torch.Tensor]) -> None:
    assert len(ones) == len(others)
    for step, (one, other) in enumerate(zip(ones, others, strict=True)):
        assert torch.equal(one, other), f"call {step}"


def test_without_at_steps_are_counted_by_the_timestep(ldm_unet):
    timesteps = [981, 741, 501, 261, 21]
    expected = sample_with_at(ldm_unet, CYCLE, [(timestep, step, 5) for step, timestep in enumerate(timesteps)])
    with patched(ldm_unet, CYCLE):
        equal(sample(ldm_unet, timesteps), expected)


def test_without_at_calls_with_the_same_timestep_share_the_phase(ldm_unet):
    timesteps = [981, 981, 741, 741, 741, 501]
    expected = sample_with_at(
        ldm_unet, CYCLE, list(zip(timesteps, [0, 0, 1, 1, 1, 2], itertools.repeat(5), strict=False))
    )
    with patched(ldm_unet, CYCLE):
        equal(sample(ldm_unet, timesteps), expected)


def test_without_at_steps_begin_again_when_the_timestep_rises(ldm_unet):
    timesteps = [981, 741, 501]
    with patched(ldm_unet, CYCLE):
        first = sample(ldm_unet, timesteps)
        equal(sample(ldm_unet, timesteps), first)
    with patched(ldm_unet, CYCLE):
        equal(sample(ldm_unet, timesteps), first)
    assert not torch.equal(*sample_with_at(ldm_unet, CYCLE, [(741, 0, 5), (741, 1, 5)]))


@pytest.mark.parametrize(("timestep", "on"), [(999, False), (751, False), (749, True), (501, True), (499, False)])
def test_without_at_progress_comes_from_the_timestep(ldm_unet, timestep, on):
    (dense,) = sample(ldm_unet, [timestep])
    with patched(ldm_unet, Settings(factor=2, start=0.25, end=0.5, phase="fixed")) as patch:
        (output,) = sample(ldm_unet, [timestep])
        assert patch.moment.progress == pytest.approx(1 - timestep / 1000)
    assert torch.equal(output, dense) is not on


def test_without_at_the_timestep_may_be_a_keyword(ldm_unet):
    expected = sample_with_at(ldm_unet, CYCLE, [(981, 0, 5), (741, 1, 5)])
    with patched(ldm_unet, CYCLE), torch.no_grad():
        latent, _, context = inputs(16, 24)
        outputs = [
            ldm_unet(latent, context=context, timesteps=torch.tensor([float(timestep)])) for timestep in (981, 741)
        ]
    equal(outputs, expected)


def test_without_at_and_without_timesteps(level):
    given = level_inputs(13, 9)
    with patched(level, CYCLE), torch.no_grad():
        assert torch.equal(level(given[0], context=given[2]), run(level, given))


def test_at_ends_the_counting(ldm_unet):
    with patched(ldm_unet, CYCLE) as patch:
        patch.at(2, 5)
        outputs = sample(ldm_unet, [981, 741])
    equal(outputs, sample_with_at(ldm_unet, CYCLE, [(981, 2, 5), (741, 2, 5)]))


def test_the_phase_changes_and_the_cost_stays(ldm_unet):
    given = inputs(16, 24)
    with patched(ldm_unet, CYCLE) as patch:
        outputs = []
        for step in range(5):
            patch.at(step, 20)
            outputs.append(run(ldm_unet, given))
        assert {row.kept for row in patch.report()} == {96}
    for one, other in itertools.combinations(outputs[:4], 2):
        assert not torch.equal(one, other)
    assert torch.equal(outputs[4], outputs[0])
