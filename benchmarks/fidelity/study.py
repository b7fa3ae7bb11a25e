"""The command `study`: which settings stay close to dense in other conditions than the published one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import output
from benchmarks.fidelity import paper
from benchmarks.fidelity.methods import GRIDS, METHODS, PAPER, TOKEN_MERGING, named, of_trained
from benchmarks.fidelity.report import Table, as_text, label
from benchmarks.fidelity.results import Interval, Result, Size
from benchmarks.fidelity.run import Task, perform
from benchmarks.method import DENSE, NO_EFFECT
from benchmarks.sampling import PUBLISHED, Sampling
from benchmarks.tiny.model import PROMPTS, SIZES

_PAPER_2, _PAPER_3 = (named(PAPER, factor) for factor in (2, 3))
_MERGING_2, _MERGING_3 = (named(TOKEN_MERGING, factor) for factor in (2, 3))

_CHOICE = (DENSE, *map(of_trained, GRIDS), _PAPER_2, _MERGING_2)
_DEFAULT = (DENSE, of_trained(48), _PAPER_2)
_CREDENTIAL = (DENSE, _PAPER_2, _PAPER_3, _MERGING_2, _MERGING_3)

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

_STEPS = tuple(
    Sampling(steps, sampler)
    for sampler in ("lcm", "euler", "dpm++ 2m sde")
    for steps in (4, 6, 8, 12)
    if Sampling(steps, sampler) not in _CONDITIONS
)


def tasks() -> list[Task]:
    """The parts of the study."""
    trained, larger, _ = SIZES
    oblong = [size for sizes in FORMATS.values() for size in sizes if size not in SIZES]
    return [
        *(_task(SIZES, _CHOICE, sampling, seeds=2 if sampling.steps == 4 else 1) for sampling in _CONDITIONS),
        *(_task(SIZES, _DEFAULT, sampling, seeds=2 if sampling.steps in (4, 12) else 1) for sampling in _STEPS),
        *(_task(oblong, _DEFAULT, sampling) for sampling in (PUBLISHED, _LCM, _FEW_STEPS)),
        _task([larger], _CREDENTIAL, paper.SAMPLING),
        _task([trained, larger], _CHOICE, _SHARPER),
    ]


def _task(sizes: Sequence[Size], methods: Sequence[str], sampling: Sampling, seeds: int = 1) -> Task:
    return Task(sizes, PROMPTS, seeds, methods, sampling, perceptual=False)


def run(processes: int, folder: Path, name: str) -> None:
    """Makes and scores the images that are not yet there, writes JSON and prints the tables."""
    (path,) = output.files(folder, name, "json")
    results = perform(tasks(), path, processes)
    tables = (choice_table, format_table, credential_table)
    print("\n\n".join([*(as_text(table(results)) for table in tables), str(path)]))


def errors(results: Sequence[Result], methods: Sequence[str]) -> Iterator[tuple[Result, Size]]:
    """The runs, and their sizes at which all of the methods were measured beside the paper's f=2."""
    for result in results:
        for size in result.sizes:
            if all(result.has(method, size) for method in (*methods, _PAPER_2)):
                yield result, size


def error(result: Result, method: str, size: Size) -> Interval:
    """A method's squared error over that of the paper's f=2."""
    return result.ratio(method, _PAPER_2, size)


def choice_table(results: Sequence[Result]) -> Table:
    """By condition and size: squared errors over that of the paper's f=2."""
    methods = (*map(of_trained, GRIDS), _MERGING_2)
    rows = [
        [str(result.sampling), f"{result.effective_keys(size):.0%}", label(size), *(
            ratio_cell(error(result, method, size)) for method in methods
        )]
        for result, size in errors(results, methods)
    ]  # fmt: skip
    return ["", "effective keys", "size", *(f"{grid} per side" for grid in GRIDS), "token merging, f=2"], rows


def format_table(results: Sequence[Result]) -> Table:
    """By condition and format: squared errors of the default, 48 per side, over that of the paper's f=2."""
    measured = {
        (result.sampling, size): error(result, of_trained(48), size) for result, size in errors(results, _DEFAULT)
    }
    rows = [
        [str(sampling), name, *(ratio_cell(measured[sampling, size]) for size in sizes)]
        for sampling in sorted({sampling for sampling, _ in measured}, key=str)
        for name, sizes in FORMATS.items()
        if all((sampling, size) in measured for size in sizes)
    ]
    return ["", "format", *(f"area of {label(size)}" for size in SIZES)], rows


def ratio_cell(ratio: Interval) -> str:
    """A ratio of errors; what has no error does nothing."""
    return NO_EFFECT if ratio.value == 0 else f"{ratio:.2f}"


def credential_table(results: Sequence[Result]) -> Table:
    """Squared errors of images by token merging over those of the paper's method, beside the paper's figures."""
    (result,) = (each for each in results if each.sampling == paper.SAMPLING)
    rows = []
    for merging, reference in ((_MERGING_2, _PAPER_2), (_MERGING_3, _PAPER_3)):
        here = result.ratio(merging, reference, figure=lambda score: score.image_mse)
        there = paper.ERRORS[merging] / paper.ERRORS[reference]
        rows.append([f"f={METHODS[merging].factor:g}", f"{there:.2f}", f"{here:.2f}"])
    return ["token merging / the paper's method", "the paper, SD1.5", "the embedded model"], rows
