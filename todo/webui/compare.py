"""Compare with dense: after a generation the same one once more, without ToDo, and a sheet of both.

The dense half is a whole generation of the host's, made when the first is finished to its last script, from a copy of
`p` that no script has seen yet, with the random state of that moment. So neither half knows of the other: the picture
with ToDo is the one made without comparing, and whatever becomes of the dense half, it is there.
"""

from __future__ import annotations

import time
import weakref
from copy import copy
from typing import Any

from todo.settings import SettingsError
from todo.webui import host, runs, sheet
from todo.webui.generation import OVERRIDES
from todo.webui.log import logger
from todo.webui.request import requested

HALF = "todo_half"
"""The attribute of `p` that holds its Half."""

INTERRUPTED = "Compare with dense: interrupted, so there is no sheet"


class Half:
    """What is noted of one half while it is made: seconds of sampling, and whether the user cut it short."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.cut_short = False
        self._since: float | None = None

    def start(self) -> None:
        """A denoiser call begins. One that failed has never ended."""
        runs.wait_for_device()
        self._since = time.perf_counter()

    def stop(self) -> None:
        """The denoiser call has ended."""
        if self._since is not None:
            runs.wait_for_device()
            self.seconds += time.perf_counter() - self._since
            self._since = None


class Comparison:
    """One generation that is to be compared."""

    def __init__(self, p: Any, first_argument: int):
        self.owner = weakref.ref(p)
        self.runner = p.scripts
        self.random = runs.random_state()
        self.dense = _dense_copy(p, first_argument)
        setattr(p, HALF, Half())
        setattr(self.dense, HALF, Half())

    def complete(self, p: Any, processed: Any) -> None:
        """Makes the dense half and puts the sheet behind the pictures. Raises nothing: the pictures are there."""
        p.scripts = self.runner
        note = INTERRUPTED
        try:
            ours = runs.pictures(p, processed)
            if not getattr(p, HALF).cut_short and not host.interrupted():
                theirs = self._make_dense(p)
                if theirs is not None and len(theirs) == len(ours):
                    note = self._add_sheet(p, processed, list(zip(theirs, ours, strict=True)))
        except Exception as error:
            logger.exception("Compare with dense failed")
            runs.free_memory()
            note = f"Compare with dense failed, so there is no sheet: {type(error).__name__}: {error}"
        logger.info(note)
        processed.comments += f"{note}\n"

    def _make_dense(self, p: Any) -> list[Any] | None:
        """The pictures without ToDo; None if the user cut them short."""
        _pin(self.dense, p)
        with runs.random_state_of(self.random), runs.prompt_history_kept():
            processed = runs.generate(self.dense)
        half = getattr(self.dense, HALF)
        return None if half.cut_short or host.interrupted() else runs.pictures(self.dense, processed)

    def _add_sheet(self, p: Any, processed: Any, pairs: list[tuple[Any, Any]]) -> str:
        seconds = [getattr(half, HALF).seconds for half in (self.dense, p)]
        title = sheet.times(*seconds)
        picture = sheet.draw([sheet.Pair(*pair) for pair in pairs], title, runs.font)
        runs.add_picture(p, processed, picture, "todo-compare")
        return f"Compare with dense: {title}"


def prepare(p: Any, arguments: tuple[Any, ...], first_argument: int) -> None:
    """Before anything else of a generation: keeps what its dense half needs, if it asks for one.

    Args:
        first_argument: where ours begin in `p.script_args`.
    """
    above = getattr(p.scripts, "comparison", None)
    if above is not None:
        if above.owner() is not p:
            return  # a picture within a picture; the outer one is compared as a whole
        p.scripts = above.runner  # it has failed the last time
    try:
        wanted = requested(arguments, getattr(p, OVERRIDES, {}))
    except SettingsError:
        return  # said where the generation begins
    if wanted and wanted.compare:
        p.scripts = _runner_with(Comparison(p, first_argument))


def count_jobs(p: Any, batch_number: int) -> None:
    """At a generation's first batch: the progress bar learns of the dense half's jobs."""
    if batch_number == 0 and getattr(p.scripts, "comparison", None) is not None and getattr(p, HALF, None):
        runs.add_jobs(p)


def step(params: Any) -> None:
    """Before a denoiser call. To be told last, so that the time is the call's alone."""
    denoiser = host.denoiser(params)
    half = getattr(denoiser.p, HALF, None) if denoiser else None
    if half:
        half.start()
        _sampling[:] = [weakref.ref(half)]


def step_done(params: Any) -> None:
    """After a denoiser call."""
    for half in _sampling:
        if (current := half()) is not None:
            current.stop()
    _sampling.clear()


def note_cut(p: Any) -> None:
    """After each batch: the host forgets a skip when the next one begins."""
    half = getattr(p, HALF, None)
    if half and host.interrupted():
        half.cut_short = True


_sampling: list[weakref.ref[Half]] = []
"""The half whose denoiser call is running, if any: the host does not say what it ends."""


def _dense_copy(p: Any, first_argument: int) -> Any:
    """`p` as it is now, to be made without ToDo and not saved. Its containers are its own."""
    dense = copy(p)
    for name, value in vars(p).items():
        if isinstance(value, (list, dict, set)):
            setattr(dense, name, copy(value))
    arguments = list(p.script_args)
    arguments[first_argument] = False
    dense.script_args = arguments
    setattr(dense, OVERRIDES, {})
    dense.do_not_save_samples = dense.do_not_save_grid = True
    return dense


def _pin(dense: Any, p: Any) -> None:
    """Gives the dense half the very prompts and seeds of the other, whatever scripts make of them again."""
    names = [f"all_{name}" for name in ("prompts", "negative_prompts", "seeds", "subseeds")]
    names += [name for name in ("all_hr_prompts", "all_hr_negative_prompts") if getattr(p, name, None)]

    def init(all_prompts: Any, all_seeds: Any, all_subseeds: Any) -> None:
        for name in names:
            setattr(dense, name, list(getattr(p, name)))
        type(dense).init(dense, dense.all_prompts, dense.all_seeds, dense.all_subseeds)

    dense.init = init  # the host calls it when every script has had its say


def _runner_with(comparison: Comparison) -> Any:
    """The host's script runner as this generation has it: when all scripts have finished, the comparison is made.

    A copy of the runner, as neighbours make one for a picture within the picture, is one of this kind, too.
    """
    kind = type(comparison.runner)

    class Runner(kind):  # type: ignore[misc, valid-type]
        def postprocess(self, p: Any, processed: Any) -> None:
            super().postprocess(p, processed)
            if p is self.comparison.owner():
                self.comparison.complete(p, processed)

    runner = copy(comparison.runner)
    runner.__class__ = Runner
    runner.comparison = comparison
    return runner
