"""The command `study`: where the moving phase helps.

It varies the number of sampling steps, the sampler, guidance, the sharpness of attention, the factor, the pattern of
kept tokens and the downsampling method. It makes fewer images than the published fidelity run, at the size that the
model was trained at and at one odd size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

from benchmarks import output
from benchmarks.fidelity.methods import FINEST_ONLY, METHODS, PAPER, PUBLISHED, TODO, counterpart, named, with_phases
from benchmarks.fidelity.report import Table, as_text, label
from benchmarks.fidelity.results import Result
from benchmarks.fidelity.run import Task, perform
from benchmarks.method import DENSE
from benchmarks.sampling import Sampling
from benchmarks.tiny.model import TRAINED_SIDE
from benchmarks.tiny.photographs import PROMPTS

_SIZE, _ODD_SIZE = (TRAINED_SIDE, TRAINED_SIDE), (208, 176)
_SEEDS = 2

_PAPER_2, _PAPER_4 = named(PAPER, 2), named(PAPER, 4)
_FINEST_2, _FINEST_4, _TODO_2, _TODO_4 = named(FINEST_ONLY, 2), named(FINEST_ONLY, 4), named(TODO, 2), named(TODO, 4)
_ALIGNED_2, _ALIGNED_4 = (named(with_phases("aligned"), factor) for factor in (2, 4))
_COMPARED = (DENSE, _PAPER_2, _PAPER_4, _ALIGNED_2, _ALIGNED_4, _FINEST_2, _FINEST_4, _TODO_2, _TODO_4)

_USUAL = Sampling()
_FEW_STEPS = Sampling(4)

_SAMPLINGS = (
    _FEW_STEPS,
    *(Sampling(steps) for steps in (8, 12)),
    _USUAL,
    *(Sampling(steps) for steps in (30, 50)),
    *(Sampling(sampler=sampler) for sampler in ("euler a", "dpm++ 2m", "heun", "ddim")),
    *(Sampling(steps, "lcm") for steps in (4, 8)),
    Sampling(guidance=4.0),
    *(Sampling(sharpness=sharpness) for sharpness in (4.0, 16.0)),
)

_FACTORS = tuple(named(FINEST_ONLY, factor) for factor in (1.5, 2, 3, 4, 8))
"""Methods compared with the paper's at the same factor, at the usual and at the odd size."""

_VARIANTS = tuple(name for name, method in METHODS.items() if name not in PUBLISHED and method.factor in (2, 4))
"""Methods compared with ToDo at the finest level and the same factor, with few steps and with the usual number."""


def tasks() -> list[Task]:
    """The parts of the study."""
    factors = _distinct(_COMPARED, _FACTORS, (counterpart(METHODS[name]) for name in _FACTORS))
    additional = {_FEW_STEPS: _VARIANTS, _USUAL: (*factors, *_VARIANTS)}
    by_sampling = [
        Task([_SIZE], PROMPTS, _SEEDS, _distinct(_COMPARED, additional.get(sampling, ())), sampling, probe=False)
        for sampling in _SAMPLINGS
    ]
    return [*by_sampling, Task([_ODD_SIZE], PROMPTS, _SEEDS, factors, _USUAL, probe=False)]


def _distinct(*names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(chain(*names)))


def run(processes: int, folder: Path, name: str) -> None:
    """Makes and scores all images, writes JSON and prints the tables."""
    (path,) = output.files(folder, name, "json")
    results = perform(tasks(), processes, path)
    tables = (sampling_table(results), factor_table(results), variant_table(results))
    print("\n\n".join([*map(as_text, tables), str(path)]))


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
    for result in results:
        (share,) = result.effective_keys.values()
        rows.append([_name(result), f"{share:.0%}", *(f"{result.ratio(*pair):.2f}" for pair in pairs.values())])
    return ["", "keys that count", *pairs], rows


def factor_table(results: Sequence[Result]) -> Table:
    """By factor: squared errors over the paper's at the same factor."""
    results = [result for result in results if set(_FACTORS) <= set(result.methods)]
    rows = [
        [name, *(f"{result.ratio(name, counterpart(METHODS[name])):.2f}" for result in results)] for name in _FACTORS
    ]
    return ["", *map(_name, results)], rows


def variant_table(results: Sequence[Result]) -> Table:
    """By variant: squared errors over those of ToDo at the finest level and the same factor."""
    results = [result for result in results if set(_VARIANTS) <= set(result.methods)]
    rows = [
        [name, *(f"{result.ratio(name, named(FINEST_ONLY, METHODS[name].factor)):.2f}" for result in results)]
        for name in _VARIANTS
    ]
    return ["", *map(_name, results)], rows


def _name(result: Result) -> str:
    (size,) = result.sizes
    odd = "" if size == _SIZE else f", {label(size)}"
    return f"{result.sampling}{odd}"
