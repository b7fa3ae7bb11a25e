"""What a run on a checkpoint has measured so far, kept image by image in a file, so that the same command goes on where
it was."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import output
from benchmarks.fidelity.results import Size
from benchmarks.fidelity.scores import Score
from benchmarks.sampling import Request
from todo import SettingsError

Key = tuple[str, str, int, Size]
"""Method, prompt, seed and size of an image."""


class Record:
    """A file of JSON lines: first under which conditions the run is measured, then a line for each figure.

    Attributes:
        scores: so far, by image.
        shares: the effective share of keys so far, by prompt and size; NaN where it could not be measured.
    """

    def __init__(self, path: Path, conditions: dict[str, Any]):
        """Reads the file, if there is one.

        Raises:
            SettingsError: the file was measured under other conditions.
        """
        self.path = path
        self.scores: dict[Key, Score] = {}
        self.shares: dict[tuple[str, Size], float] = {}
        lines = _complete_lines(path)
        if lines:
            _check(lines[0], conditions, path)
        for line in lines[1:]:
            self._take(line)
        output.write_text("".join(map(_line, [conditions, *lines[1:]])), path)

    def add_scores(self, scores: list[Score]) -> None:
        for score in scores:
            self._add({"score": asdict(score)})

    def add_share(self, request: Request, share: float) -> None:
        self._add({"share": share, "prompt": request.prompt, "size": request.size})

    def _add(self, line: dict[str, Any]) -> None:
        self._take(line)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_line(line))

    def _take(self, line: dict[str, Any]) -> None:
        if "score" in line:
            values = line["score"]
            fields = {**values, "size": tuple(values["size"]), "errors": tuple(values["errors"])}
            score = Score(**fields)
            self.scores[score.method, score.prompt, score.seed, score.size] = score
        else:
            height, width = line["size"]
            self.shares[line["prompt"], (height, width)] = line["share"]


def _line(values: dict[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False) + "\n"


def _complete_lines(path: Path) -> list[dict[str, Any]]:
    """The file's lines. A last line that was being written when the run was killed is left out."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def _check(found: dict[str, Any], wanted: dict[str, Any], path: Path) -> None:
    for name, value in wanted.items():
        if found.get(name) != value:
            raise SettingsError(
                "name",
                f"name: {path.parent.name!r} holds a run with {name} {found.get(name)!r}, not {value!r}; "
                "choose another name, or delete its folder",
            )
