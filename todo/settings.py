"""Settings: one table with every knob.

The page's controls, the infotext keys, the X/Y/Z axes, the API's schema and the README's table are all generated from
the fields of `Settings` below. Nothing about a knob is defined anywhere else.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import math
import numbers
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

INFOTEXT_PREFIX = "ToDo"
"""Every infotext key begins with it."""


class SettingsError(ValueError):
    """A setting has an unknown name or an invalid value.

    The message names the field, the value and what is allowed. `field` holds only the field's name.
    """

    def __init__(self, field: str, message: str):
        super().__init__(message)
        self.field = field

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the error with both arguments, so that it can be raised in another process."""
        return type(self), (self.field, str(self))


@dataclass(frozen=True)
class Knob:
    """One row of the table: what a setting accepts and how it is presented.

    Attributes:
        name: the field of `Settings`, and the key in the API.
        kind: the type of the value: bool, int, float or str.
        default: the value if none is given. None means that the knob has no default and needs a value.
        label: the name on the page.
        help: the explanation on the page, in the schema and on the command line.
        choices: the allowed values, if they are a list.
        minimum, maximum: inclusive bounds of a number without `choices`.
        step: step of the slider.
        mode: the only mode in which the knob has an effect; None means both.
        place: where a page shows it: 'first' with what most people need, 'more' with the expert knobs, which are folded
            away, 'hires' with those of hires. fix alone.
        suffix: the infotext key after the prefix.
    """

    name: str
    kind: type
    default: Any
    label: str
    help: str
    choices: tuple[Any, ...] = ()
    minimum: float = 0
    maximum: float = 0
    step: float = 0
    mode: str | None = None
    place: str = "first"
    suffix: str = ""

    @property
    def infotext(self) -> str:
        """The infotext key, such as 'ToDo factor'. The key of `mode` is just the prefix."""
        return f"{INFOTEXT_PREFIX} {self.suffix}".strip()

    @property
    def allowed(self) -> str:
        """What the knob accepts, as text for messages and documentation."""
        if self.choices:
            return "one of " + ", ".join(str(choice) for choice in self.choices)
        if self.kind is bool:
            return "true or false"
        if self.kind is int:
            return f"a whole number from {self.minimum:.0f} to {self.maximum:.0f}"
        return f"a number from {self.minimum:g} to {self.maximum:g}"

    def parse(self, value: Any) -> Any:
        """Converts `value` to the knob's type and checks it.

        Numbers and booleans may be strings, as they are in infotext and query strings. None means the default, if
        there is one.

        Raises:
            SettingsError: the value has the wrong type or is not allowed.
        """
        if value is None and self.default is not None:
            return self.default
        parsed: Any
        try:
            parsed = _CONVERTERS[self.kind](value)
        except (TypeError, ValueError, KeyError, OverflowError):
            raise self._error(value) from None
        if self.choices:
            valid = parsed in self.choices
        else:
            valid = self.kind is bool or self.minimum <= parsed <= self.maximum
        if not valid:
            raise self._error(value)
        return parsed

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of the value."""
        schema = {
            "type": _JSON_TYPES[self.kind],
            "default": self.default,
            "title": self.label,
            "description": self.help,
        }
        if self.choices:
            schema["enum"] = list(self.choices)
        elif self.kind is not bool:
            schema["minimum"], schema["maximum"] = self.minimum, self.maximum
        return schema

    def _error(self, value: Any) -> SettingsError:
        problem = "is missing" if value is None else f"{_shown(value)} is not allowed"
        return SettingsError(self.name, f"{self.name}: {problem}; it must be {self.allowed}")


def _shown(value: Any) -> str:
    """The value for a message: printable, and at most 80 characters."""
    try:
        shown = repr(value)
    except ValueError:  # Python refuses to print integers of more than 4300 digits
        shown = f"a number of type {type(value).__name__}"
    return shown if len(shown) <= 80 else shown[:77] + "..."


_WORDS = {"true": True, "false": False, "1": True, "0": False}


def _to_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _WORDS[value.strip().lower()]
    if isinstance(value, numbers.Real) and value in (0, 1):
        return value == 1
    raise ValueError(value)


def _to_float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real | str):
        raise TypeError(value)
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def _to_int(value: Any) -> int:
    number = _to_float(value)
    if number != int(number):
        raise ValueError(value)
    return int(number)


def _to_str(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value.strip()


_CONVERTERS: dict[type, Callable[[Any], Any]] = {bool: _to_bool, float: _to_float, int: _to_int, str: _to_str}

_JSON_TYPES = {bool: "boolean", float: "number", int: "integer", str: "string"}


def _knob(kind: type, default: Any, label: str, help: str, **rest: Any) -> Any:
    """A dataclass field that carries its row of the table.

    The field's own default is None, which `Settings` replaces with the knob's default. This distinguishes a knob that
    was left out from one that was set to its default, which matters for the mode.
    """
    return field(
        default=None, metadata={"row": {"kind": kind, "default": default, "label": label, "help": help, **rest}}
    )


@dataclass(frozen=True)
class Settings:
    """How keys and values are downsampled. Immutable; all values are checked here, once.

    Fields that you leave out, or set to None, take their defaults. If you leave out `mode`, it is 'manual' if you set
    a field that only has an effect in that mode, else 'auto'. Ratios (`factor`, `deep_factor`, `hires_factor`) and
    `grid` are per side: a ratio of 2 keeps a quarter of the keys and values. `start` and `end` are fractions of a
    pass's sampling steps.

    Raises:
        SettingsError: a value has the wrong type or is not allowed, or the fields set belong to different modes.

    Source: Smith, Saxena, Saha, "ToDo: Token Downsampling for Efficient Generation of High-Resolution Images",
    IJCAI 2024 (arXiv 2402.13573), section 3: `factor`, with method 'nearest' and phase 'fixed'. Everything else is
    this project's addition.
    """

    mode: str = _knob(
        str, "auto", "Mode",
        "auto: ToDo decides by image size and steps. manual: you set the ratios.",
        choices=("auto", "manual"),
    )  # fmt: skip
    grid: int = _knob(
        int, 48, "Keys/values kept per side",
        "Lower is faster, higher usually changes less.",
        minimum=16, maximum=128, step=8, mode="auto", suffix="grid",
    )  # fmt: skip
    factor: float = _knob(
        float, 2.0, "Downsample ratio (per side)",
        "Higher is faster, and usually changes more. 1 is off.",
        minimum=1, maximum=8, step=0.25, mode="manual", suffix="factor",
    )  # fmt: skip
    deep_factor: float = _knob(
        float, 1.0, "Ratio at deeper levels",
        "The same for the UNet's coarser levels. 1 is off.",
        minimum=1, maximum=8, step=0.25, mode="manual", suffix="deep factor",
    )  # fmt: skip
    max_downsample: int = _knob(
        int, 4, "Max downsample (resolution)",
        "1: the UNet's finest level only. Higher adds coarser ones: faster.",
        choices=(1, 2, 4, 8), suffix="max downsample",
    )  # fmt: skip
    method: str = _knob(
        str, "nearest", "Method",
        "Which token of each cell stays: its first, or its middle one (nearest-exact).",
        choices=("nearest", "nearest-exact"), place="more", suffix="method",
    )  # fmt: skip
    phase: str = _knob(
        str, "cycle", "Phase",
        "cycle: usually closer to the image without ToDo. fixed: as in the paper.",
        choices=("cycle", "fixed"), place="more", suffix="phase",
    )  # fmt: skip
    start: float = _knob(
        float, 0.0, "Steps: from",
        "ToDo is off before this share of the sampling steps.",
        minimum=0, maximum=1, step=0.05, suffix="start",
    )  # fmt: skip
    end: float = _knob(
        float, 1.0, "Steps: to",
        "ToDo is off after this share of the steps. 1: never off.",
        minimum=0, maximum=1, step=0.05, suffix="end",
    )  # fmt: skip
    taper: bool = _knob(
        bool, False, "Taper",
        "Strongest in the first steps, then fades out.",
        place="more", suffix="taper",
    )  # fmt: skip
    passes: str = _knob(
        str, "both", "Passes",
        "Where ToDo acts with hires. fix. Without hires. fix, an image counts as first.",
        choices=("both", "first", "hires"), place="hires", suffix="passes",
    )  # fmt: skip
    hires_factor: float = _knob(
        float, 0.0, "Downsample ratio in the hires pass",
        "0: the same ratio as in the first pass.",
        minimum=0, maximum=8, step=0.25, mode="manual", place="hires", suffix="hires factor",
    )  # fmt: skip
    controlnet: bool = _knob(
        bool, True, "ControlNet too",
        "Speeds up an active ControlNet as well.",
        place="more", suffix="controlnet",
    )  # fmt: skip

    def __post_init__(self) -> None:
        given = {name for name in KNOBS if getattr(self, name) is not None}
        for name, knob in KNOBS.items():
            object.__setattr__(self, name, knob.parse(getattr(self, name)))
        if "mode" not in given:
            object.__setattr__(self, "mode", implied_mode(given))
        if self.start > self.end:
            raise SettingsError(
                "start", f"start: {self.start:g} is after end {self.end:g}; it must not be greater than end"
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Settings:
        """Settings from names and values, as they come from JSON, a query string or infotext.

        Raises:
            SettingsError: a value is invalid or a name is unknown. For an unknown name, the message suggests the most
                similar valid one.
        """
        for name in values:
            if name not in KNOBS:
                raise unknown_name(name, KNOBS)
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Every field with its value. `from_dict` accepts the result."""
        return dataclasses.asdict(self)

    def ineffective(self) -> list[str]:
        """What has no effect, a sentence each: values of another mode, and a step window without any step."""
        problems = [
            f"{name}={getattr(self, name):g} has no effect in mode {self.mode!r}, only in mode {knob.mode!r}"
            for name, knob in KNOBS.items()
            if knob.mode not in (None, self.mode) and getattr(self, name) != knob.default
        ]
        if self.start == self.end:
            problems.append(f"start and end are both {self.start:g}, so ToDo is off in every step")
        return problems

    @staticmethod
    def schema() -> dict[str, Any]:
        """The JSON Schema of what `from_dict` accepts, with the label and help text of every field."""
        return {
            "title": "ToDo settings",
            "type": "object",
            "additionalProperties": False,
            "properties": {name: knob.schema() for name, knob in KNOBS.items()},
        }


def with_labels(error: SettingsError, *others: Knob) -> str:
    """The error's message for a page, with labels in place of names: those of the table, and of `others`."""
    labels = {knob.name: knob.label for knob in (*KNOBS.values(), *others)}
    text = str(error)
    for name in ("start", "end") if error.field == "start" else (error.field,):
        if label := labels.get(name):
            text = re.sub(rf"\b{name}\b", label, text)
            if ":" in label:
                text = text.replace(f"{label}: ", f"{label} ")
    return text


def unknown_name(name: Any, known: Any) -> SettingsError:
    """The error for a name that is not in `known`. It suggests the most similar valid name."""
    text = str(name)[:80]
    near = difflib.get_close_matches(text, list(known), n=1, cutoff=0)
    # repr without its quotes: control characters are escaped, so that the message stays on one line.
    return SettingsError(text, f"{repr(text)[1:-1]}: unknown setting; did you mean {near[0]}?")


def implied_mode(given: Iterable[str]) -> str:
    """The mode to which the knobs in `given` belong; the default mode if they all have an effect in both.

    Raises:
        SettingsError: the knobs belong to different modes.
    """
    modes = {mode for name in given if (mode := KNOBS[name].mode)}
    if len(modes) > 1:
        raise SettingsError(
            "mode", f"mode: {', '.join(sorted(given))} belong to different modes; set mode to {KNOBS['mode'].allowed}"
        )
    return modes.pop() if modes else KNOBS["mode"].default


KNOBS: dict[str, Knob] = {f.name: Knob(name=f.name, **f.metadata["row"]) for f in dataclasses.fields(Settings)}
"""The table by name, in the order of the controls on the page."""

# For `help(todo.Settings)`: the fields with their types and the defaults that they take.
Settings.__doc__ = f"{Settings.__doc__}\n    Fields:\n" + "\n".join(
    f"        {knob.name}: {knob.allowed}; {knob.default!r} by default. {knob.label}. {knob.help}"
    for knob in KNOBS.values()
)
Settings.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=knob.default, annotation=knob.kind)
        for name, knob in KNOBS.items()
    ]
)
