"""The study of the moving phase: other numbers of steps, samplers, guidance, sharper attention, other factors, an odd
size; and other ways to move the phase, or to downsample. Fewer pictures than the published run, and no larger than the
model was trained at but for the odd size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from todo.bench.fidelity.methods import DENSE, FINEST_ONLY, METHODS, OWN, PAPER, PUBLISHED, counterpart, moving, named
from todo.bench.fidelity.report import label
from todo.bench.fidelity.results import Result, write
from todo.bench.fidelity.run import Task, perform
from todo.bench.painter.painter import TRAINED_SIDE
from todo.bench.painter.photographs import PROMPTS
from todo.bench.painter.sampler import Sampling
from todo.bench.report import markdown

_SIZE, _ODD_SIZE = (TRAINED_SIDE, TRAINED_SIDE), (208, 176)
_SEEDS = 2

_PAPER_2, _PAPER_4 = named(PAPER, 2), named(PAPER, 4)
_FINEST_2, _FINEST_4, _OWN_2, _OWN_4 = named(FINEST_ONLY, 2), named(FINEST_ONLY, 4), named(OWN, 2), named(OWN, 4)
_ALIGNED_2, _ALIGNED_4 = (named(moving("aligned"), factor) for factor in (2, 4))
_COMPARED = (DENSE, _PAPER_2, _PAPER_4, _ALIGNED_2, _ALIGNED_4, _FINEST_2, _FINEST_4, _OWN_2, _OWN_4)

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
"""Compared with the paper's at the same factor, at the usual and at the odd size."""

_VARIANTS = tuple(name for name, method in METHODS.items() if name not in PUBLISHED and method.factor in (2, 4))
"""Compared with ToDo's own at the finest level and the same factor, with few steps and with the usual number."""


def tasks() -> list[Task]:
    """What the study draws."""
    factors = _distinct(_COMPARED, _FACTORS, (counterpart(METHODS[name]) for name in _FACTORS))
    further = {_FEW_STEPS: _VARIANTS, _USUAL: (*factors, *_VARIANTS)}
    usual = [
        Task([_SIZE], PROMPTS, _SEEDS, _distinct(_COMPARED, further.get(sampling, ())), sampling, probe=False)
        for sampling in _SAMPLINGS
    ]
    return [*usual, Task([_ODD_SIZE], PROMPTS, _SEEDS, factors, _USUAL, probe=False)]


def _distinct(*names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(chain(*names)))


def run(workers: int, folder: Path, name: str) -> bool:
    """Draws and compares everything, then prints the tables and writes the JSON. Returns whether it was complete; else
    nothing is written."""
    wanted = tasks()
    found = perform(wanted, workers)
    if len(found) < len(wanted):
        return False
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    write(found, path)
    print(f"{sampling_table(found)}\n\n{factor_table(found)}\n\n{variant_table(found)}\n\n{path}")
    return True


def sampling_table(found: Sequence[Result]) -> str:
    """By sampling: squared errors over the paper's, in Markdown."""
    pairs = {
        "aligned, f=2 / paper's f=2": (_ALIGNED_2, _PAPER_2),
        "finest level, f=2 / paper's f=2": (_FINEST_2, _PAPER_2),
        "aligned, f=4 / paper's f=4": (_ALIGNED_4, _PAPER_4),
        "finest level, f=4 / paper's f=4": (_FINEST_4, _PAPER_4),
        "f=2 / paper's f=2": (_OWN_2, _PAPER_2),
        "f=4 / paper's f=2": (_OWN_4, _PAPER_2),
    }
    rows = []
    for result in found:
        (counted,) = result.peaked.values()
        rows.append([_name(result), f"{counted:.0%}", *(f"{result.ratio(*pair):.2f}" for pair in pairs.values())])
    return markdown(["", "keys that count", *pairs], rows)


def factor_table(found: Sequence[Result]) -> str:
    """By factor: squared errors over the paper's at the same factor, in Markdown."""
    results = [result for result in found if set(_FACTORS) <= set(result.methods)]
    rows = [
        [name, *(f"{result.ratio(name, counterpart(METHODS[name])):.2f}" for result in results)] for name in _FACTORS
    ]
    return markdown(["", *map(_name, results)], rows)


def variant_table(found: Sequence[Result]) -> str:
    """By other way: squared errors over those of ToDo's own at the same factor, in Markdown."""
    results = [result for result in found if set(_VARIANTS) <= set(result.methods)]
    return markdown(["", *map(_name, results)], ([name, *_ratios(results, name)] for name in _VARIANTS))


def _ratios(results: Sequence[Result], name: str) -> Iterator[str]:
    own = named(FINEST_ONLY, METHODS[name].factor)
    for result in results:
        yield f"{result.ratio(name, own):.2f}"


def _name(result: Result) -> str:
    (size,) = result.sizes
    odd = "" if size == _SIZE else f", {label(size)}"
    return f"{result.sampling}{odd}"
