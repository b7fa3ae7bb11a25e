"""A comparison: the runs after the first one, and what is shown of them."""

from __future__ import annotations

import weakref
from copy import copy
from dataclasses import replace
from typing import Any

from ...prediction import text
from ...settings import Settings
from .. import generation, host, runs, variants
from ..log import logger
from ..request import Compare, Wanted
from . import choice, pair
from .clock import CLOCK, Clock
from .column import Column, data, line, with_fidelity

COMPARISON = "todo_comparison"
"""The attribute of `p` that holds its Comparison."""
FIGURES = "ToDo compare"
"""The key of the figures among the parameters in the API's `info`. It is in no image's infotext."""


class Comparison:
    """A generation whose images are made again without ToDo or with other settings.

    Args:
        p: the generation, before it begins.
        wanted: what it asks for.
        first_argument: the index of the first of our arguments in `p.script_args`.
    """

    def __init__(self, p: Any, wanted: Wanted, first_argument: int):
        self.owner = weakref.ref(p)
        self._title = f"Compare {wanted.compare.value}"
        self._pair = wanted.compare is Compare.DENSE
        self._chosen = wanted.settings
        self._first_argument = first_argument
        self._random = runs.random_state()
        self._original = _copy(p)
        self._runner = p.scripts
        self._others: list[Settings | None] = []
        self._knob = ""

    def attach(self, p: Any) -> None:
        """Makes the comparison begin when all scripts have finished with the generation."""
        setattr(p, COMPARISON, self)
        setattr(p, CLOCK, Clock(p, first=True))
        p.scripts = copy(p.scripts)
        p.scripts.postprocess = self._postprocess

    def detach(self, p: Any) -> None:
        """Leaves a generation as it was before `attach`."""
        p.scripts = self._runner
        delattr(p, COMPARISON)
        delattr(p, CLOCK)

    def begin(self, p: Any) -> None:
        """At the first batch, when the sizes are known: plans the runs and adds their jobs to the progress bar."""
        passes = host.passes_of(p)
        self._knob = variants.strength_knob(self._chosen, len(passes) > 1 and self._chosen.passes != "first")
        tried = [self._chosen] if self._pair else variants.around(self._chosen, self._knob)
        acting = variants.acting(tried, passes, self._chosen)
        self._others = [None, *(each for each in acting if each != self._chosen)]
        runs.add_jobs(p, len(self._others) if acting else 0)
        self._announce(self._chosen, 1)

    def _postprocess(self, p: Any, processed: Any) -> None:
        """In place of the method of the host's script runner. Other extensions copy the runner for a generation inside
        this one, so it is that of `p` which is asked."""
        type(p.scripts).postprocess(p.scripts, p, processed)
        if p is self.owner() and len(host.callers()) == 1:
            self.complete(p, processed)

    def complete(self, p: Any, processed: Any) -> None:
        """Makes the other runs and shows the results. Never raises, so that the images are not lost."""
        try:
            note = f"{self._title}: {self._complete(p, processed)}"
        except Exception as error:
            logger.exception("%s failed", self._title)
            runs.free_memory()
            note = f"{self._title} failed, so no sheet was made: {type(error).__name__}: {error}"
        finally:
            runs.announce("")
            self.detach(p)
        logger.info(note)
        processed.comments += f"{note}\n"

    def _complete(self, p: Any, processed: Any) -> str:
        first = self._column(self._chosen, p, processed)
        if ended := getattr(p, CLOCK).ended:
            return f"{ended}, so no sheet was made"
        why_idle, is_known = generation.why_no_effect(p), host.family(host.loaded_model()) is not None
        if why_idle and (len(self._others) == 1 or not is_known):
            neither = ", with neighbouring settings neither" if is_known and not self._pair else ""
            return f"no effect {why_idle}{neither}; no comparison was made"
        if why_idle:
            first = replace(first, label=f"{first.label}: no effect", seconds=None)
        made, problems = self._make_others(p)
        made = [replace(column, positions=None if self._pair else _shown(column, processed)) for column in made]
        if not made or made[0].settings:
            return "; ".join(problems) + ", so no sheet was made"
        columns = with_fidelity([first, *made])
        # A new dict: all images of an X/Y/Z plot share that of `p`.
        processed.extra_generation_params = {**processed.extra_generation_params, FIGURES: data(columns)}
        draw = pair.draw if self._pair else choice.draw
        runs.add_image(p, processed, draw(columns, runs.font), "todo-compare")
        return "; ".join([line(columns), *problems])

    def _make_others(self, p: Any) -> tuple[list[Column], list[str]]:
        """Makes the images dense and with the other settings.

        Returns:
            The columns that have an image; and what went wrong. The user may end all by interrupting, or one by
            skipping.
        """
        made, problems = [], []
        for number, settings in enumerate(self._others, 2):
            self._announce(settings, number)
            run = self._copy_with(settings)
            try:
                column = self._column(settings, run, self._generate(run, p))
            except Exception as error:
                logger.exception("%s: %s failed", self._title, self._label(settings))
                runs.free_memory()
                problems.append(f"{self._label(settings)} failed: {type(error).__name__}: {error}")
                continue
            if column.images:
                made.append(column)
            if ended := getattr(run, CLOCK).ended:
                problems.append(f"{self._label(settings)} was {ended}")
            if host.ended() == "interrupted":
                break
        return made, problems

    def _copy_with(self, settings: Settings | None) -> Any:
        """A copy of the original `p` with other settings. Its images are saved if they are shown in the gallery."""
        run = _copy(self._original)
        arguments = list(run.script_args)
        arguments[self._first_argument] = settings.to_dict() if settings else False
        run.script_args = arguments
        setattr(run, CLOCK, Clock(run, first=False))
        run.do_not_save_grid = True
        run.do_not_save_samples = self._pair or run.do_not_save_samples
        return run

    def _generate(self, run: Any, p: Any) -> Any:
        _pin_prompts_and_seeds(run, p)
        try:
            with runs.random_state_of(self._random), runs.last_prompt_kept():
                return runs.generate(run)
        finally:
            del run.init  # which holds the run and `p`

    def _column(self, settings: Settings | None, run: Any, processed: Any) -> Column:
        clock = getattr(run, CLOCK)
        clock.end()
        positions = runs.positions(run, processed)
        if clock.ended:
            positions = positions[: clock.batches * run.batch_size]
        return Column(
            label=self._label(settings),
            settings=settings,
            chosen=settings == self._chosen,
            images=[processed.images[position] for position in positions],
            infotexts=processed.infotexts[processed.index_of_first_image :],
            seeds=run.all_seeds,
            subseeds=run.all_subseeds,
            seconds=None if clock.ended else clock.seconds,
            positions=positions,
        )

    def _label(self, settings: Settings | None) -> str:
        return "ToDo" if self._pair and settings else text(variants.label(self._knob, settings))

    def _announce(self, settings: Settings | None, number: int) -> None:
        runs.announce(f"Compare: {self._label(settings)} ({number} of {len(self._others) + 1})")


def _shown(column: Column, processed: Any) -> range:
    """Appends a column's images to those of the generation, each with its own infotext. Returns their positions."""
    first = len(processed.images)
    runs.append(processed, column.images, column.infotexts, column.seeds, column.subseeds)
    return range(first, len(processed.images))


def _copy(p: Any) -> Any:
    """A copy of `p`. Its containers are copied, too."""
    copied = copy(p)
    for name, value in vars(p).items():
        if isinstance(value, (list, dict, set)):
            setattr(copied, name, copy(value))
    return copied


def _pin_prompts_and_seeds(run: Any, p: Any) -> None:
    """Makes a run use the prompts and seeds of `p`, even if scripts (wildcards, say) choose others again."""
    names = [f"all_{name}" for name in ("prompts", "negative_prompts", "seeds", "subseeds")]
    names += [name for name in ("all_hr_prompts", "all_hr_negative_prompts") if getattr(p, name, None)]

    def init(all_prompts: Any, all_seeds: Any, all_subseeds: Any) -> None:
        for name in names:
            setattr(run, name, list(getattr(p, name)))
        type(run).init(run, run.all_prompts, run.all_seeds, run.all_subseeds)

    run.init = init  # the host calls it after all scripts have set their prompts and seeds
