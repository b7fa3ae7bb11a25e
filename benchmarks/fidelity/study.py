"""The command `study`: which settings stay close to dense in other conditions than the published one, where the moving
phase helps, and why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks import output
from benchmarks.fidelity import paper
from benchmarks.fidelity.methods import (
    FINEST_ONLY,
    GIVEN_UP,
    GRIDS,
    METHODS,
    PAPER,
    TODO,
    TOKEN_MERGING,
    VARIANTS,
    named,
    of_trained,
    with_phases,
)
from benchmarks.fidelity.report import NO_EFFECT, Table, as_text, label
from benchmarks.fidelity.results import Interval, Result
from benchmarks.fidelity.run import Task, perform
from benchmarks.fidelity.scores import Score
from benchmarks.method import DENSE
from benchmarks.sampling import PUBLISHED, Sampling
from benchmarks.tiny.model import SIZES
from benchmarks.tiny.photographs import PROMPTS

_PAPER_2, _PAPER_3, _PAPER_4 = (named(PAPER, factor) for factor in (2, 3, 4))
_MERGING_2, _MERGING_3 = (named(TOKEN_MERGING, factor) for factor in (2, 3))
_FINEST_2, _FINEST_4, _TODO_2, _TODO_4 = named(FINEST_ONLY, 2), named(FINEST_ONLY, 4), named(TODO, 2), named(TODO, 4)
_ALIGNED_2, _ALIGNED_4 = (named(with_phases("aligned"), factor) for factor in (2, 4))

_CHOICE = (DENSE, *map(of_trained, GRIDS), _PAPER_2, _MERGING_2)
_LCM, _FEW_STEPS, _USUAL = Sampling(4, "lcm"), Sampling(4), Sampling()
_CONDITIONS = (_LCM, _FEW_STEPS, _USUAL)
_SHARPER = Sampling(guidance=4.0, sharpness=4.0)

FORMATS = {
    "1:1": SIZES,
    "3:2": ((112, 160), (160, 240), (208, 320)),
    "16:9": ((96, 176), (144, 256), (192, 336)),
    "2:1": ((96, 192), (128, 272), (176, 368)),
    "4:1": ((64, 256), (96, 384), (128, 512)),
}
"""Sizes of about the same areas as `SIZES`, as near to each format as the model can make them."""

_DEFAULT = (DENSE, of_trained(48), _PAPER_2)
_STEPS = tuple(
    Sampling(steps, sampler)
    for sampler in ("lcm", "euler", "dpm++ 2m sde")
    for steps in (4, 6, 8, 12)
    if Sampling(steps, sampler) not in _CONDITIONS
)

_CREDENTIAL = (DENSE, _PAPER_2, _PAPER_3, _MERGING_2, _MERGING_3)
_CALLS = (DENSE, _PAPER_2, _ALIGNED_2, _FINEST_2, _MERGING_2)

_COMPARED = (DENSE, _PAPER_2, _PAPER_4, _ALIGNED_2, _ALIGNED_4, _FINEST_2, _FINEST_4, _TODO_2, _TODO_4)
_SAMPLINGS = (
    *(Sampling(steps) for steps in (8, 12, 30, 50)),
    *(Sampling(sampler=sampler) for sampler in ("euler a", "dpm++ 2m", "heun", "ddim")),
    *(Sampling(steps, "lcm") for steps in (4, 8)),
    Sampling(guidance=4.0),
    *(Sampling(sharpness=sharpness) for sharpness in (4.0, 16.0)),
)


def tasks() -> list[Task]:
    """The parts of the study."""
    trained, larger, _ = SIZES
    every_step = [(step + 0.5) / PUBLISHED.steps for step in range(PUBLISHED.steps)]
    return [
        *(_task(SIZES, _CHOICE, sampling, seeds=2 if sampling.steps == 4 else 1) for sampling in _CONDITIONS),
        *(_task(SIZES, _DEFAULT, sampling, seeds=2 if sampling.steps in (4, 12) else 1) for sampling in _STEPS),
        *(_task(_oblong_sizes(), _DEFAULT, sampling) for sampling in (PUBLISHED, _LCM, _FEW_STEPS)),
        _task([trained], _CALLS, PUBLISHED, probed=every_step),
        _task([larger], _CREDENTIAL, paper.SAMPLING),
        _task([trained, larger], _CHOICE, _SHARPER),
        *(_task([trained], (*_COMPARED, *VARIANTS), sampling, seeds=2) for sampling in (_FEW_STEPS, _USUAL)),
        *(_task([trained], _COMPARED, sampling, seeds=2) for sampling in _SAMPLINGS),
    ]


def _oblong_sizes() -> list[tuple[int, int]]:
    return [size for sizes in FORMATS.values() for size in sizes if size not in SIZES]


def _task(
    sizes: Sequence[tuple[int, int]],
    methods: Sequence[str],
    sampling: Sampling,
    seeds: int = 1,
    probed: Sequence[float] = (),
) -> Task:
    distinct = tuple(dict.fromkeys(methods))
    return Task(sizes, PROMPTS, seeds, distinct, sampling, probed, perceptual=False)


def run(processes: int, folder: Path, name: str) -> None:
    """Makes and scores all images, writes JSON and prints the tables."""
    (path,) = output.files(folder, name, "json")
    results = perform(tasks(), processes, path)
    tables = (choice_table, format_table, credential_table, shared_table, sampling_table, variant_table)
    print("\n\n".join([*(as_text(table(results)) for table in tables), str(path)]))


def choices(results: Sequence[Result]) -> list[Result]:
    """The results that compare all grids."""
    return _having(results, _CHOICE)


def choice_table(results: Sequence[Result]) -> Table:
    """By condition and size: squared errors over that of the paper's f=2."""
    rows = [
        [str(result.sampling), f"{result.effective_keys[size]:.0%}", label(size), *(
            ratio_cell(result.ratio(method, _PAPER_2, size)) for method in (*map(of_trained, GRIDS), _MERGING_2)
        )]
        for result in choices(results)
        for size in result.sizes
    ]  # fmt: skip
    return ["", "keys that count", "size", *(f"{grid} per side" for grid in GRIDS), "token merging, f=2"], rows


def format_table(results: Sequence[Result]) -> Table:
    """By condition and format: squared errors of the default, 48 per side, over that of the paper's f=2."""
    rows = [
        [str(result.sampling), name, *(ratio_cell(result.ratio(of_trained(48), _PAPER_2, size)) for size in sizes)]
        for result in sorted(_having(results, _DEFAULT), key=lambda result: (str(result.sampling), len(result.sizes)))
        for name, sizes in FORMATS.items()
        if set(sizes) <= set(result.sizes)
    ]
    return ["", "format", *(f"area of {label(size)}" for size in SIZES)], rows


def ratio_cell(ratio: Interval) -> str:
    """A ratio of errors; what has no error does nothing."""
    return NO_EFFECT if ratio.value == 0 else f"{ratio:.2f}"


def credential_table(results: Sequence[Result]) -> Table:
    """Squared errors of images by token merging over those of the paper's method, beside the paper's figures."""
    (result,) = _having(results, _CREDENTIAL)
    rows = []
    for merging, reference in ((_MERGING_2, _PAPER_2), (_MERGING_3, _PAPER_3)):
        here = result.ratio(merging, reference, figure=lambda score: score.image_mse)
        there = paper.ERRORS[merging] / paper.ERRORS[reference]
        rows.append([f"f={METHODS[merging].factor:g}", f"{there:.2f}", f"{here:.2f}"])
    return ["token merging / the paper's method", "the paper, SD1.5", "the embedded model"], rows


def shared_table(results: Sequence[Result]) -> Table:
    """The errors of single calls, how much of them is the same at every step, and the error of the final latent."""
    (result,) = [each for each in _having(results, _CALLS) if any(score.errors for score in each.scores)]
    rows = [
        [
            method,
            f"{result.mean(_mean_error, method):.4f}",
            f"{result.mean(lambda score: score.shared, method):.2f}",
            f"{result.ratio(method, _PAPER_2):.2f}",
        ]
        for method in result.methods
        if method != DENSE
    ]
    return ["", "error of a call", "of it the same at every step", "final latent: MSE / paper's f=2"], rows


def _mean_error(score: Score) -> float:
    return sum(score.errors) / len(score.errors)


def sampling_table(results: Sequence[Result]) -> Table:
    """By sampling: squared errors over the paper's."""
    pairs = {
        "aligned, f=2 / paper's f=2": (_ALIGNED_2, _PAPER_2),
        "finest level, f=2 / paper's f=2": (_FINEST_2, _PAPER_2),
        "aligned, f=4 / paper's f=4": (_ALIGNED_4, _PAPER_4),
        "finest level, f=4 / paper's f=4": (_FINEST_4, _PAPER_4),
        "f=2 / paper's f=2": (_TODO_2, _PAPER_2),
        "f=4 / paper's f=2": (_TODO_4, _PAPER_2),
    }
    rows = []
    for result in _having(results, _COMPARED):
        (share,) = result.effective_keys.values()
        rows.append([str(result.sampling), f"{share:.0%}", *(f"{result.ratio(*pair):.2f}" for pair in pairs.values())])
    return ["", "keys that count", *pairs], rows


def variant_table(results: Sequence[Result]) -> Table:
    """By variant: squared errors over those of ToDo at the finest level and the same factor."""
    results = _having(results, VARIANTS)
    measured = [name for name in (*VARIANTS, *GIVEN_UP) if all(name in result.methods for result in results)]
    rows = [[name, *(f"{result.ratio(name, _finest_like(name)):.2f}" for result in results)] for name in measured]
    return ["", *(str(result.sampling) for result in results)], rows


def _finest_like(name: str) -> str:
    """ToDo at the finest level with the factor of a variant."""
    return named(FINEST_ONLY, float(name.rpartition("f=")[2]))


def _having(results: Sequence[Result], methods: Sequence[str]) -> list[Result]:
    return [result for result in results if set(methods) <= set(result.methods)]
