"""Tables and sentences of the published fidelity run, of the study and of runs on checkpoints."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from math import isnan
from pathlib import Path

from benchmarks.fidelity import paper, report, study
from benchmarks.fidelity.methods import FINEST_ONLY, GRIDS, PAPER, TILES, TOKEN_MERGING, named, of_trained
from benchmarks.fidelity.report import label
from benchmarks.fidelity.results import Interval, Result, Size, StaleError, read
from benchmarks.fidelity.scores import Score
from benchmarks.method import DENSE
from benchmarks.output import bullets, markdown, read_json
from benchmarks.sampling import PUBLISHED
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
    return f"{report.about(result)}\n\n{markdown(head, rows)}\n{_with_sharper_attention()}"


def _with_sharper_attention() -> str:
    """What the table becomes where attention is more peaked."""
    sharper = next(each for each in studied() if each.sampling.sharpness != 1)
    merging, default = (
        " and ".join(f"{sharper.ratio(method, _PAPER, each):.2f}" for each in sharper.sizes)
        for method in (_MERGING, of_trained(48))
    )
    sizes, keys = " and ".join(map(label, sharper.sizes)), report.effective_keys(sharper, sharper.sizes[0])
    text = (
        f"With attention {sharper.sampling.sharpness:g} times sharper ({keys}) all methods move closer together: at "
        f"{sizes}, 48 per side has {default} of the paper's error, token merging {merging}."
    )
    return f"{textwrap.fill(text, 120)}\n"


def size_tables() -> str:
    """The scores of every method at every size."""
    result = published()
    tables = (
        f"### {label(size)}\n\n{report.effective_keys(result, size).capitalize()}.\n\n"
        f"{markdown(*report.table(result, size))}"
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
    keeps_64, keeps_48, keeps_32 = map(of_trained, GRIDS)
    merging, tiles = ([result.ratio(name, _PAPER, each) for each in result.sizes] for name in (_MERGING, _TILES))
    error = {name: result.ratio(name, _PAPER, size) for name in (keeps_64, keeps_48, keeps_32, _FINEST)}
    faster = {name: f"×{result.speedup(name, size):.2f}" for name in (*error, _PAPER)}
    seen = {name: result.ratio(name, _PAPER, size, lpips) for name in (keeps_48, keeps_32, _MERGING)}
    least = min(ratio.low for ratio in merging)
    _check(least > 1, "token merging is further from dense than the paper's method")
    _check(error[keeps_64].high < 0.5, "64 per side has less than half of the paper's error")
    return bullets(
        f"**Token merging changes images more than the paper's method does**, as the paper says: its squared error is "
        f"{_range(merging)} times as large, depending on the size, and at the lower end of every interval still "
        f"{least:.1f} times. With this model it is also slower. Tiles have {_range(tiles, 0)} times the error of the "
        f"paper's method.",
        f"**Which tokens are kept matters more than how many.** At twice the trained size, 64 per side has "
        f"{error[keeps_64]:.2f} of the paper's error. It keeps as many tokens at the finest level, and fewer at the "
        f"deeper ones, which makes it {faster[keeps_64]} instead of {faster[_PAPER]}. The difference: neighbouring "
        f"cells keep different tokens, and [all of them move from step to step](#why-the-pattern-moves). At the finest "
        f"level alone, the error is {error[_FINEST]:.2f}.",
        f"**48 per side, the default**, has {error[keeps_48]:.2f} of the paper's error there, at "
        f"{faster[keeps_48]}; 32 per side has {error[keeps_32]:.2f}, at {faster[keeps_32]}.",
        f"By LPIPS, 48 per side has {seen[keeps_48]:.2f} of the paper's distance at that size, 32 per side "
        f"{seen[keeps_32]:.2f}, token merging {seen[_MERGING]:.1f}.",
    )


def default_findings() -> str:
    """What all conditions say about the three settings.

    Raises:
        StaleError: the results no longer say so.
    """
    here = {grid: list(_errors(of_trained(grid), lambda result: result.sampling == PUBLISHED)) for grid in GRIDS}
    others = {grid: list(_errors(of_trained(grid), lambda result: result.sampling != PUBLISHED)) for grid in GRIDS}
    worst = {grid: max(errors, key=lambda each: each[0].value) for grid, errors in here.items()}
    acting = [(error, where) for error, where in others[48] if error.value]
    beyond = [(error, where) for error, where in acting if error.high >= 1]
    highest, at_worst = max(beyond, key=lambda each: each[0].high)
    elsewhere = {grid: max(errors, key=lambda each: each[0].value) for grid, errors in others.items()}
    _check(worst[48][0].high < 1 and elsewhere[48][0].value < 1, "48 per side has less than the paper's error")
    _check(elsewhere[32][0].value > 1, "32 per side can have more than the paper's error")
    return bullets(
        f"**48 per side, the default**: at most {worst[48][0]:.2f} of the paper's error in the published condition "
        f"with its five formats and three sizes, {worst[48][1]}. In the other conditions at most "
        f"{elsewhere[48][0]:.2f}, {elsewhere[48][1]}. The figure itself is always below the paper's error. In "
        f"{len(beyond)} of {len(acting)} cases the upper end of its interval is not, the highest being "
        f"{highest.high:.2f}, {at_worst}.",
        f"**64 per side**, for images that must stay close to dense: at most {worst[64][0]:.2f} in the published "
        f"condition, {worst[64][1]}. It does not help with few steps, where the default keeps just as much at twice "
        f"the trained size: up to {elsewhere[64][0]:.2f}, {elsewhere[64][1]}.",
        f"**32 per side**, for drafts: at most {worst[32][0]:.2f} in the published condition, {worst[32][1]}, and up "
        f"to {elsewhere[32][0]:.2f} elsewhere, {elsewhere[32][1]}.",
    )


def _errors(method: str, chosen: Callable[[Result], bool]) -> Iterator[tuple[Interval, str]]:
    """A method's squared errors over those of the paper's f=2 in the chosen runs, and at what sampling and size."""
    for result, size in study.errors(list(filter(chosen, studied())), (method,)):
        where = "" if result.sampling == PUBLISHED else f"with {result.sampling}, "
        yield study.error(result, method, size), f"{where}at {label(size)}"


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
        f"The order is the same as in the paper, and the ratio falls with f as it does there, but token merging is "
        f"less far behind: if anything, the embedded model flatters it. In this condition the paper's method with "
        f"f=2 has a mean squared error of {two.value:.1e} (on average {psnr:.1f} dB); the paper reports {there:.1e} on "
        f"SD1.5. From f=2 to f=3 the error grows {three.value / two.value:.1f} times, in the paper "
        f"{further / there:.1f} times."
    )
    return f"{markdown(*study.credential_table(studied()))}\n{textwrap.fill(text, 120)}\n"


_COMPARED = {
    **{f"{grid} per side / paper's f=2": per_side(grid) for grid in GRIDS},
    "token merging, f=2 / paper's f=2": _MERGING,
}
_CHECKPOINT_HEAD = (
    "checkpoint", "size", "images", "effective keys", "paper's f=2: PSNR, dB", *_COMPARED, "measured with"
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
        f"{result.environment.where} · {result.environment.date}",
    ]
