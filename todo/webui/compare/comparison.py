"""A comparison: the runs after the first one, and what is shown of them."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from typing import Any

from ...settings import Settings
from .. import host, runs
from ..candidates import comparable, label, strength_knob
from ..generation import OVERRIDES
from ..log import logger
from ..request import Compare, Wanted
from ..sheets import choice, pair
from ..sheets.column import Column, closeness, data, line
from ..sheets.fidelity import Fidelity
from .timing import TIMING, Timing

FIGURES = "ToDo compare"
"""The key of the figures among the parameters in the API's `info`. It is in no image's infotext."""


class Comparison:
    """A generation whose images are made again without ToDo or with other settings.

    Args:
        p: the generation, before any script has changed it.
        wanted: what it asks for.
        first_argument: the index of the first of our arguments in `p.script_args`.
    """

    def __init__(self, p: Any, wanted: Wanted, first_argument: int):
        self.owner = weakref.ref(p)
        self.runner = p.scripts
        self._title = f"Compare {wanted.compare.value}"
        self._pair = wanted.compare is Compare.DENSE
        self._chosen = wanted.settings
        self._first_argument = first_argument
        self._random = runs.random_state()
        self._original = _copy(p)
        self._tried: list[Settings] = []
        self._knob = ""
        setattr(p, TIMING, Timing(first=True))

    def begin(self, p: Any) -> None:
        """At the first batch, when the sizes are known: plans the runs and adds their jobs to the progress bar."""
        passes = runs.passes(p)
        self._knob = strength_knob(self._chosen, len(passes) > 1 and self._chosen.passes != "first")
        self._tried = [self._chosen] if self._pair else comparable(self._chosen, passes, self._knob)
        runs.add_jobs(p, len(self._tried))
        self._announce(self._chosen, 1)

    def complete(self, p: Any, processed: Any) -> None:
        """Makes the other runs and shows the results. Never raises, so that the images are not lost."""
        p.scripts = self.runner
        try:
            note = f"{self._title}: {self._complete(p, processed)}"
        except Exception as error:
            logger.exception("%s failed", self._title)
            runs.free_memory()
            note = f"{self._title} failed, so no comparison image was made: {type(error).__name__}: {error}"
        finally:
            runs.announce("")
        logger.info(note)
        processed.comments += f"{note}\n"

    def _complete(self, p: Any, processed: Any) -> str:
        first = self._column(self._chosen, p, processed)
        if ended := getattr(p, TIMING).ended:
            return f"{ended}, so no comparison image was made"
        made, problems = self._make_others(p)
        made[self._chosen] = replace(first, shown=processed.index_of_first_image)
        columns = [made[each] for each in (None, *self._tried) if each in made]
        if not self._pair:
            columns = [column if column.chosen else _shown(column, processed) for column in columns]
        if columns[0].settings or len(columns) == 1:
            return "; ".join(problems) + ", so no comparison image was made"
        close = closeness(columns)
        # A new dict: all images of an X/Y/Z plot share that of `p`.
        processed.extra_generation_params = {**processed.extra_generation_params, FIGURES: data(columns, close)}
        runs.add_image(p, processed, self._draw(columns, close), "todo-compare")
        return "; ".join([line(columns), *problems])

    def _make_others(self, p: Any) -> tuple[dict[Settings | None, Column], list[str]]:
        """Makes the images dense and with the other settings.

        Returns:
            The columns that have an image, by their settings; and what went wrong. The user may end all by
            interrupting, or one by skipping.
        """
        made: dict[Settings | None, Column] = {}
        problems = []
        others = [None, *(each for each in self._tried if each != self._chosen)]
        for number, settings in enumerate(others, 2):
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
                made[settings] = column
            if ended := getattr(run, TIMING).ended:
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
        setattr(run, OVERRIDES, {})
        setattr(run, TIMING, Timing(first=False))
        run.do_not_save_grid = True
        run.do_not_save_samples = self._pair or run.do_not_save_samples
        return run

    def _generate(self, run: Any, p: Any) -> Any:
        _pin_prompts_and_seeds(run, p)
        with runs.random_state_of(self._random), runs.last_prompt_kept():
            return runs.generate(run)

    def _column(self, settings: Settings | None, run: Any, processed: Any) -> Column:
        timing = getattr(run, TIMING)
        timing.end()
        images = runs.generated_images(run, processed)
        if timing.ended:
            images = images[: timing.batches * run.batch_size]
        return Column(
            label=self._label(settings),
            settings=settings,
            chosen=settings == self._chosen,
            images=images,
            infotexts=processed.infotexts[processed.index_of_first_image :],
            seeds=run.all_seeds,
            subseeds=run.all_subseeds,
            seconds=None if timing.ended else timing.seconds,
        )

    def _draw(self, columns: Sequence[Column], close: Sequence[Sequence[Fidelity | None]]) -> Any:
        if self._pair:
            dense, todo = columns
            pairs = [pair.Pair(*each) for each in zip(dense.images, todo.images, close[1], strict=False)]
            return pair.draw(pairs, line(columns), runs.font)
        return choice.draw(columns, close, runs.font)

    def _label(self, settings: Settings | None) -> str:
        return "ToDo" if self._pair and settings else label(self._knob, settings)

    def _announce(self, settings: Settings | None, number: int) -> None:
        runs.announce(f"Compare: {self._label(settings)} ({number} of {len(self._tried) + 1})")


def _shown(column: Column, processed: Any) -> Column:
    """Appends a column's images to those of the generation, each with its own infotext."""
    shown = len(processed.images)
    runs.append(processed, column.images, column.infotexts, column.seeds, column.subseeds)
    return replace(column, shown=shown)


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
