"""Compare with dense: generates the same images a second time without ToDo, and draws a comparison of both.

The dense run is a complete generation by the host. It starts after every script has finished with the first run, from a
copy of `p` that was made before any script changed it, with the random state of that moment. The two runs therefore do
not influence each other: the images with ToDo are the same as without comparing, and they are kept even if the dense
run fails.
"""

from __future__ import annotations

import time
import weakref
from copy import copy
from typing import Any

from ..settings import SettingsError
from . import host, runs, sheet
from .generation import OVERRIDES
from .log import logger
from .request import requested

TIMING = "todo_half"
"""The attribute of `p` that holds its Timing."""


class Timing:
    """What is recorded during one of the two runs.

    Attributes:
        dense: whether it is the dense run.
        seconds: time of sampling.
        ended: how the user ended it, as in `host.ended`.
    """

    def __init__(self, dense: bool) -> None:
        self.dense = dense
        self.seconds = 0.0
        self.ended = ""
        self._since: float | None = None

    def start(self) -> None:
        """Before a denoiser call. Overwrites the start of a call that failed."""
        runs.wait_for_device()
        self._since = time.perf_counter()

    def stop(self) -> None:
        """After a denoiser call."""
        if self._since is not None:
            runs.wait_for_device()
            self.seconds += time.perf_counter() - self._since
            self._since = None


class Comparison:
    """A generation that will be compared with a dense run."""

    def __init__(self, p: Any, first_argument: int):
        self.owner = weakref.ref(p)
        self.runner = p.scripts
        self.random = runs.random_state()
        self.dense = _dense_copy(p, first_argument)
        setattr(p, TIMING, Timing(dense=False))
        setattr(self.dense, TIMING, Timing(dense=True))

    def complete(self, p: Any, processed: Any) -> None:
        """Makes the dense run and appends the comparison image. Never raises, so that the images are not lost."""
        p.scripts = self.runner
        try:
            todo_images = runs.generated_images(p, processed)
            dense_images = [] if self._ended(p) else self._generate_dense(p)
            if self._ended(p) or len(dense_images) != len(todo_images):
                note = f"Compare with dense: {self._ended(p) or 'interrupted'}, so no comparison image was made"
            else:
                note = self._add_sheet(p, processed, list(zip(dense_images, todo_images, strict=True)))
        except Exception as error:
            logger.exception("Compare with dense failed")
            runs.free_memory()
            note = f"Compare with dense failed, so no comparison image was made: {type(error).__name__}: {error}"
        logger.info(note)
        processed.comments += f"{note}\n"

    def _ended(self, p: Any) -> str:
        """How the user ended one of the runs, as in `host.ended`."""
        return getattr(p, TIMING).ended or getattr(self.dense, TIMING).ended or host.ended()

    def _generate_dense(self, p: Any) -> list[Any]:
        """The images without ToDo."""
        _pin_prompts_and_seeds(self.dense, p)
        with runs.random_state_of(self.random), runs.last_prompt_kept():
            processed = runs.generate(self.dense)
        return runs.generated_images(self.dense, processed)

    def _add_sheet(self, p: Any, processed: Any, pairs: list[tuple[Any, Any]]) -> str:
        seconds = [getattr(run, TIMING).seconds for run in (self.dense, p)]
        title = sheet.times(*seconds)
        image = sheet.draw([sheet.Pair(*pair) for pair in pairs], title, runs.font)
        runs.add_image(p, processed, image, "todo-compare")
        return f"Compare with dense: {title}"


def prepare(p: Any, arguments: tuple[Any, ...], first_argument: int) -> None:
    """Before a generation: saves what the dense run will need, if the generation asks for a comparison.

    Args:
        arguments: the values of our controls.
        first_argument: the index of the first of them in `p.script_args`.
    """
    outer = getattr(p.scripts, "comparison", None)
    if outer is not None:
        if outer.owner() is not p:
            return  # a generation inside another one, which is compared as a whole
        p.scripts = outer.runner  # left over from a generation of the same `p` that failed
    try:
        wanted = requested(arguments, getattr(p, OVERRIDES, {}))
    except SettingsError:
        return  # `generation.begin` reports the error
    if wanted and wanted.compare:
        p.scripts = _runner_with(Comparison(p, first_argument))


def count_jobs(p: Any, batch_number: int) -> None:
    """At the first batch of a generation: adds the jobs of the dense run to the progress bar."""
    if batch_number == 0 and getattr(p.scripts, "comparison", None) is not None and getattr(p, TIMING, None):
        runs.add_jobs(p)


def step(params: Any) -> None:
    """Before a denoiser call. Must be the last of our callbacks, so that it times nothing but the call."""
    denoiser = host.denoiser(params)
    timing = getattr(denoiser.p, TIMING, None) if denoiser else None
    if timing:
        # Interrupting ends the images with ToDo after the one at work. What is missing then is only the comparison.
        if timing.dense and host.stopping():
            runs.interrupt()
        timing.start()
        _running[:] = [weakref.ref(timing)]


def step_done(params: Any) -> None:
    """After a denoiser call."""
    for timing in _running:
        if (current := timing()) is not None:
            current.stop()
    _running.clear()


def note_interruption(p: Any) -> None:
    """After each batch. The host forgets that a batch was skipped when the next one begins."""
    timing = getattr(p, TIMING, None)
    if timing:
        timing.ended = timing.ended or host.ended()


_running: list[weakref.ref[Timing]] = []
"""The Timing whose denoiser call is running, if any. The host's callback after a call does not name its generation."""


def _dense_copy(p: Any, first_argument: int) -> Any:
    """A copy of `p` that runs without ToDo and saves no images. Its containers are copied, too."""
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


def _pin_prompts_and_seeds(dense: Any, p: Any) -> None:
    """Makes the dense run use the prompts and seeds of `p`, even if scripts (wildcards, say) choose others again."""
    names = [f"all_{name}" for name in ("prompts", "negative_prompts", "seeds", "subseeds")]
    names += [name for name in ("all_hr_prompts", "all_hr_negative_prompts") if getattr(p, name, None)]

    def init(all_prompts: Any, all_seeds: Any, all_subseeds: Any) -> None:
        for name in names:
            setattr(dense, name, list(getattr(p, name)))
        type(dense).init(dense, dense.all_prompts, dense.all_seeds, dense.all_subseeds)

    dense.init = init  # the host calls it after all scripts have set their prompts and seeds


def _runner_with(comparison: Comparison) -> Any:
    """A copy of the host's script runner that makes the comparison after all scripts have finished.

    Other extensions may copy this runner for a generation inside this one. The copy has the same class, which is why
    it checks whose generation has finished.
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
