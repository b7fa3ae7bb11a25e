"""Tables and sentences of the published fidelity run, of the study and of runs on checkpoints."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from math import isnan
from pathlib import Path

from benchmarks.fidelity import paper, report, study
from benchmarks.fidelity.methods import FINEST_ONLY, GRIDS, PAPER, TILES, TOKEN_MERGING, named, of_trained
from benchmarks.fidelity.report import label, machine
from benchmarks.fidelity.results import Interval, Result, Size, StaleError, read
from benchmarks.fidelity.scores import Score
from benchmarks.method import DENSE
from benchmarks.output import bullets, markdown, read_json
from benchmarks.sampling import PUBLISHED, Sampling
from benchmarks.speed.methods import per_side
from docs.generate import RESULTS

_PAPER, _MERGING, _FINEST, _TILES = (named(curve, 2) for curve in (PAPER, TOKEN_MERGING, FINEST_ONLY, TILES))

_ON_THE_PAGE = {
    **{f"{grid} per side": of_trained(grid) for grid in GRIDS},
    "64 per side, *Max downsample* 1": _FINEST,
    "the paper: *manual*, ratio 2, *Phase* fixed": _PAPER,
    "token merging (tomesd), ratio 0.75": _MERGING,
    "HyperTile, 2 × 2 tiles": _TILES,
}
"""Settings for SD1.5 at 1024², and the methods that keep the same share of tokens at twice the trained size."""


@cache
def published() -> Result:
    """The published run."""
    (result,) = read(RESULTS / "fidelity.json")
    return result


@cache
def studied() -> list[Result]:
    """The published run, and the runs of the study."""
    return [published(), *read(RESULTS / "study.json")]


def lpips(score: Score) -> float:
    return score.lpips


def loss_table() -> str:
    """How close images stay with each setting, at twice the size that the model was trained at. It gives ratios to the
    paper's setting and to token merging, since decibels of one model say little about another."""
    result = published()
    size = result.sizes[-1]
    head = ["on the page", "speed-up", "squared error / the paper's", "/ token merging's", "LPIPS / the paper's"]
    rows = [
        [
            settings,
            f"×{result.speedup(method, size):.2f}",
            f"{result.ratio(method, _PAPER, size):.2f}",
            f"{result.ratio(method, _MERGING, size):.3f}",
            f"{result.ratio(method, _PAPER, size, lpips):.2f}",
        ]
        for settings, method in _ON_THE_PAGE.items()
    ]
    return f"{report.about(result)}\n\n{markdown(head, rows)}"


def size_tables() -> str:
    """The scores of every method at every size."""
    result = published()
    tables = (
        f"### {label(size)}\n\n{report.counting_keys(result, size)}.\n\n{markdown(*report.table(result, size))}"
        for size in result.sizes
    )
    return f"{report.about(result)}\n\n" + "\n".join(tables)


def study_table(table: Callable[[Sequence[Result]], report.Table]) -> Callable[[], str]:
    """The function that makes a table of the study."""
    return lambda: markdown(*table(studied()))


choice_table = study_table(study.choice_table)
format_table = study_table(study.format_table)


def findings() -> str:
    """What the published run says.

    Raises:
        StaleError: the results no longer say so.
    """
    result = published()
    *_, size = result.sizes
    merging, tiles = ([result.ratio(name, _PAPER, each) for each in result.sizes] for name in (_MERGING, _TILES))
    least = min(ratio.low for ratio in merging)
    error = {name: result.ratio(name, _PAPER, size) for name in (*map(of_trained, GRIDS), _FINEST)}
    faster = {name: f"×{result.speedup(name, size):.2f}" for name in error | {_PAPER: None}}
    seen = {name: result.ratio(name, _PAPER, size, lpips) for name in (*map(of_trained, GRIDS[1:]), _MERGING)}
    guided, plain = (
        next(each for each in studied() if each.sampling == sampling).mean(lambda score: score.psnr, _PAPER, size)
        for sampling in (PUBLISHED, Sampling())
    )
    keeps_64, keeps_48, keeps_32 = map(of_trained, GRIDS)
    _check(least > 1, "token merging is further from dense than the paper's method")
    _check(error[keeps_64].high < 0.5, "64 per side has less than half of the paper's error")
    _check(error[keeps_48].high < 1, "48 per side has less than the paper's error")
    _check(guided.high < plain.low, "guidance makes the paper's error larger")
    return bullets(
        f"**The paper's method is closer to dense than token merging**, as the paper claims: token merging has "
        f"{_range(merging)} times its squared error by size, at least {least:.1f} times by every interval, and takes "
        f"longer. Tiles have {_range(tiles, 0)} times the error of the paper's method.",
        f"**Which tokens are kept matters more than how many.** At twice the trained size, 64 per side has "
        f"{error[keeps_64]:.2f} of the paper's error with the same ratio at the finest level, and downsamples the "
        f"deeper levels, too, for {faster[keeps_64]} instead of {faster[_PAPER]}. The reason is that neighbouring "
        f"cells keep different tokens and all of them move from step to step: [see below](#why-the-pattern-moves). At "
        f"the finest level alone the error is {error[_FINEST]:.2f}.",
        f"**48 per side, the default**, has {error[keeps_48]:.2f} of the paper's error there, for {faster[keeps_48]}; "
        f"32 per side {error[keeps_32]:.2f}, for {faster[keeps_32]}.",
        f"By LPIPS, 48 per side has {seen[keeps_48]:.2f} of the paper's distance at that size, 32 per side "
        f"{seen[keeps_32]:.2f}, token merging {seen[_MERGING]:.1f}.",
        f"**Guidance makes all errors larger**, the paper's too: at twice the trained size its f=2 stands {guided:.1f} "
        f"dB from dense. Without guidance, with {Sampling()}, it is {plain:.1f}.",
    )


def default_findings() -> str:
    """What all conditions say about the three settings.

    Raises:
        StaleError: the results no longer say so.
    """
    here = {grid: list(_errors(of_trained(grid), lambda result: result.sampling == PUBLISHED)) for grid in GRIDS}
    others = {grid: list(_errors(of_trained(grid), lambda result: result.sampling != PUBLISHED)) for grid in GRIDS}
    largest = {grid: _largest(errors) for grid, errors in here.items()}
    elsewhere = {grid: _largest(errors) for grid, errors in others.items()}
    beyond = [(error, sampling, where) for error, sampling, where in others[48] if error.high >= 1]
    _check(largest[48][0].high < 1 and elsewhere[48][0].value < 1, "48 per side has less than the paper's error")
    _check(largest[64][0].high < 0.5, "64 per side has less than half of the paper's error")
    _check(elsewhere[32][0].value > 1, "32 per side can have more than the paper's error")
    _check(
        all(sampling.steps <= 8 or sampling.sampler == "lcm" for _, sampling, _ in beyond), "only few steps and LCM do"
    )
    cases = "; ".join(f"{sampling}, {where} ({error.high:.2f})" for error, sampling, where in beyond)
    return bullets(
        f"**48 per side, the default**: in the published condition at most {largest[48][0]:.2f} of the paper's error, "
        f"at {largest[48][2]}, in five formats at one, one and a half and two times the trained size. In the other "
        f"conditions at most {elsewhere[48][0]:.2f}, with {elsewhere[48][1]} at {elsewhere[48][2]}. Everywhere the "
        f"figure itself is below the paper's error. The interval's upper end is not in {len(beyond)} of "
        f"{len(others[48])} cases: {cases}. All of them are few steps, or LCM, which draws new noise in every step, so "
        f"that the errors of its steps do not average out.",
        f"**64 per side**, for images that must stay close to the dense ones: at most {largest[64][0]:.2f} in the "
        f"published condition, at {largest[64][2]}. It is no help with few steps, in which the default keeps as much "
        f"at twice the trained size: up to {elsewhere[64][0]:.2f}, with {elsewhere[64][1]} at {elsewhere[64][2]}.",
        f"**32 per side**, for drafts: up to {largest[32][0]:.2f} in the published condition, at {largest[32][2]}, and "
        f"elsewhere up to {elsewhere[32][0]:.2f}, with {elsewhere[32][1]} at {elsewhere[32][2]}.",
    )


def largest_error(grid: int, chosen: Callable[[Result], bool]) -> str:
    """The largest error of a number of keys/values per side in the chosen runs, with sampling and size, as a cell."""
    error, sampling, where = _largest(list(_errors(of_trained(grid), chosen)))
    return f"{error:.2f}: {where if sampling == PUBLISHED else f'{sampling}, {where}'}"


def _errors(method: str, chosen: Callable[[Result], bool]) -> Iterator[tuple[Interval, Sampling, str]]:
    """A method's squared errors over those of the paper's f=2, with sampling and size, in the chosen runs."""
    for result, size in study.errors(list(filter(chosen, studied())), (method,)):
        yield study.error(result, method, size), result.sampling, label(size)


def _largest(errors: Sequence[tuple[Interval, Sampling, str]]) -> tuple[Interval, Sampling, str]:
    return max(errors, key=lambda each: each[0].value)


def _range(ratios: Sequence[Interval], digits: int = 1) -> str:
    low, high = (pick(ratio.value for ratio in ratios) for pick in (min, max))
    return f"{low:.{digits}f} to {high:.{digits}f}"


def _check(holds: bool, claim: str) -> None:
    if not holds:
        raise StaleError(f"the results no longer say that {claim}; the text has to change")


def credential() -> str:
    """Token merging and the paper's method beside the paper's own figures."""
    (result,) = (each for each in studied() if each.sampling == paper.SAMPLING)
    two, three = (result.mean(lambda score: score.image_mse, named(PAPER, factor)) for factor in (2, 3))
    psnr = result.mean(lambda score: score.psnr, _PAPER).value
    there, further = (paper.ERRORS[named(PAPER, factor)] for factor in (2, 3))
    text = (
        f"The order is the paper's, and the ratio falls with f as there, but token merging is less far behind. So the "
        f"embedded model rather flatters token merging. In this condition its f=2 by the paper's method has a mean "
        f"squared error of {two.value:.1e}, a mean of {psnr:.1f} dB; the paper reports {there:.1e} on SD1.5. From f=2 "
        f"to f=3 the error grows {three.value / two.value:.1f} times, in the paper {further / there:.1f} times."
    )
    return f"{markdown(*study.credential_table(studied()))}\n{textwrap.fill(text, 120)}\n"


_COMPARED = {
    **{f"{grid} per side / paper's f=2": per_side(grid) for grid in GRIDS},
    "token merging, f=2 / paper's f=2": _MERGING,
}
_CHECKPOINT_HEAD = (
    "checkpoint", "size", "images", "keys that count", "paper's f=2: PSNR, dB", *_COMPARED, "measured with"
)  # fmt: skip


def checkpoint_table(folder: Path = RESULTS) -> str:
    """A row for each checkpoint and size, of every fidelity run on a checkpoint in the folder: how far the paper's f=2
    is from dense, and the others' squared errors over its."""
    paths = [path for path in sorted(folder.glob("*.json")) if _has_checkpoints(path)]
    rows = [_row(result, size) for path in paths for result in read(path) if result.model for size in result.sizes]
    return markdown(_CHECKPOINT_HEAD, rows) if rows else "No checkpoint has been measured yet.\n"


def _has_checkpoints(path: Path) -> bool:
    """Whether a file lists fidelity runs that name a model."""
    values = read_json(path)
    return isinstance(values, list) and any("sizes" in run and run.get("model") for run in values)


def _row(result: Result, size: Size) -> list[str]:
    share, measured = result.effective_keys(size), partial(result.has, size=size)
    return [
        result.model,
        label(size),
        f"{len(result.of(DENSE, size))}, {result.sampling}",
        "" if isnan(share) else f"{share:.0%}",
        f"{result.mean(lambda score: score.psnr, _PAPER, size):.1f}" if measured(_PAPER) else "",
        *(
            f"{result.ratio(method, _PAPER, size):.2f}" if measured(_PAPER) and measured(method) else ""
            for method in _COMPARED.values()
        ),
        f"ToDo {result.code} · {machine(result.environment)} · {result.environment.date}",
    ]
