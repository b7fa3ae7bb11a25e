"""Settings: the one table of every knob.

Widgets, infotext keys, X/Y/Z axes, the API's schema and the README's table are all made from the fields of
`Settings` below; nothing about a knob is written down anywhere else.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

INFOTEXT_PREFIX = "ToDo"


class SettingsError(ValueError):
    """A setting has a wrong name or value.

    The message names the field, the value and what is allowed; `field` holds the field's name alone.
    """

    def __init__(self, field: str, message: str):
        super().__init__(message)
        self.field = field

    def __reduce__(self) -> tuple[Any, ...]:
        """It can be raised in another process."""
        return type(self), (self.field, str(self))


@dataclass(frozen=True)
class Knob:
    """One row of the table: what a setting accepts and how it is presented.

    `kind` is the type of its value. A knob has either `choices` or, when it is a number, the inclusive bounds
    `minimum` and `maximum` with the `step` of its slider. `mode` names the only mode in which the knob acts
    (None: in both). `suffix` is its infotext key after the prefix.
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
    suffix: str = ""

    @property
    def infotext(self) -> str:
        """The knob's infotext key, such as 'ToDo factor'. The mode's is the bare prefix."""
        return f"{INFOTEXT_PREFIX} {self.suffix}".strip()

    @property
    def allowed(self) -> str:
        """What the knob accepts, in words."""
        if self.choices:
            return "one of " + ", ".join(str(choice) for choice in self.choices)
        if self.kind is bool:
            return "true or false"
        noun = "a whole number" if self.kind is int else "a number"
        return f"{noun} from {self.minimum:g} to {self.maximum:g}"

    def parse(self, value: Any) -> Any:
        """Returns `value` as the knob's own type. A number may come as a string (JSON, infotext, a query
        string); None stands for the default, if there is one. Raises SettingsError for anything else."""
        if value is None and self.default is not None:
            return self.default
        parsed: Any
        try:
            parsed = _CONVERTERS[self.kind](value)
        except (TypeError, ValueError, OverflowError):
            raise self._error(value) from None
        if self.choices:
            valid = parsed in self.choices
        else:
            valid = self.kind is bool or self.minimum <= parsed <= self.maximum
        if not valid:
            raise self._error(value)
        return parsed

    def schema(self) -> dict[str, Any]:
        """The knob as a JSON Schema."""
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
        return SettingsError(self.name, f"{self.name}: {_shown(value)} is not allowed; it must be {self.allowed}")


def _shown(value: Any) -> str:
    """A value as it stands in a message: printable, and not too long."""
    try:
        shown = repr(value)
    except ValueError:  # Python prints no whole number of more than 4300 digits
        shown = f"a number of type {type(value).__name__}"
    return shown if len(shown) <= 80 else shown[:77] + "..."


def _to_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
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
    """A dataclass field that carries its row of the table. The field itself defaults to None, which
    `Settings` resolves, so that a knob left out can be told from one given its default."""
    return field(
        default=None, metadata={"row": {"kind": kind, "default": default, "label": label, "help": help, **rest}}
    )


@dataclass(frozen=True)
class Settings:
    """How keys and values are downsampled. Immutable; every value is checked once, here.

    A field left out, or None, takes its default. Where `mode` is left out it is 'manual' if a field that acts
    only there is given, else 'auto'.

    Raises:
        SettingsError: a value is of the wrong type or outside what is allowed.

    Source: Smith, Saxena, Saha, "ToDo: Token Downsampling for Efficient Generation of High-Resolution Images",
    IJCAI 2024 (arXiv 2402.13573), for `factor` and method 'nearest' with phase 'fixed'; the rest is this project's.
    """

    mode: str = _knob(
        str, "auto", "Mode",
        "auto: the ratio follows the picture's size. manual: you choose the ratios.",
        choices=("auto", "manual"),
    )  # fmt: skip
    grid: int = _knob(
        int, 64, "Keys/values kept per side",
        "The finest level keeps no more keys/values per side than this, each deeper one that is touched half as many "
        "as the one before. 64 is what SD1.5 was trained on; lower is faster and less exact.",
        minimum=16, maximum=128, step=8, mode="auto", suffix="grid",
    )  # fmt: skip
    factor: float = _knob(
        float, 2.0, "Downsample ratio (per side)",
        "2 keeps one of every 2 by 2 keys/values, a quarter of them. Applies to the finest self-attention; 1 is off.",
        minimum=1, maximum=8, step=0.25, mode="manual", suffix="factor",
    )  # fmt: skip
    deep_factor: float = _knob(
        float, 1.0, "Ratio at deeper levels",
        "The same for the coarser levels, as far as 'Max downsample' reaches; 1 is off.",
        minimum=1, maximum=8, step=0.25, mode="manual", suffix="deep factor",
    )  # fmt: skip
    max_downsample: int = _knob(
        int, 4, "Max downsample (resolution)",
        "Deepest level touched: 1 is only the model's finest self-attention, 2 also the level at half its size, and "
        "so on. The middle block is never touched.",
        choices=(1, 2, 4, 8), suffix="max downsample",
    )  # fmt: skip
    method: str = _knob(
        str, "nearest", "Method",
        "How the kept keys/values are made: nearest and nearest-exact pick tokens (fastest), bilinear and area "
        "blend them.",
        choices=("nearest", "nearest-exact", "bilinear", "area"), suffix="method",
    )  # fmt: skip
    phase: str = _knob(
        str, "cycle", "Phase",
        "cycle: the picked tokens move on at every step, so that all are seen in turn, and differ between neighbours, "
        "at the same cost. fixed: the same ones at every step, as in the paper.",
        choices=("cycle", "fixed"), suffix="phase",
    )  # fmt: skip
    start: float = _knob(
        float, 0.0, "Steps: from",
        "Off before this share of each pass's steps.",
        minimum=0, maximum=1, step=0.05, suffix="start",
    )  # fmt: skip
    end: float = _knob(
        float, 1.0, "Steps: to",
        "Off from this share of each pass's steps on; 1 is to the last step.",
        minimum=0, maximum=1, step=0.05, suffix="end",
    )  # fmt: skip
    taper: bool = _knob(
        bool, False, "Taper",
        "Inside these steps the ratio falls evenly from its full value to 1.",
        suffix="taper",
    )  # fmt: skip
    passes: str = _knob(
        str, "both", "Passes",
        "Which pass of hires fix ToDo acts in. img2img and plain txt2img count as first.",
        choices=("both", "first", "hires"), suffix="passes",
    )  # fmt: skip
    hires_factor: float = _knob(
        float, 0.0, "Downsample ratio in the hires pass",
        "Own ratio at the finest level for the hires pass; 0 is the same as in the first pass, 1 is off.",
        minimum=0, maximum=8, step=0.25, mode="manual", suffix="hires factor",
    )  # fmt: skip
    controlnet: bool = _knob(
        bool, True, "ControlNet too",
        "Also acts in the encoder of an active ControlNet, which is a copy of the UNet's first half.",
        suffix="controlnet",
    )  # fmt: skip

    def __post_init__(self) -> None:
        given = {name for name in KNOBS if getattr(self, name) is not None}
        for name, knob in KNOBS.items():
            object.__setattr__(self, name, knob.parse(getattr(self, name)))
        if "mode" not in given:
            object.__setattr__(self, "mode", implied_mode(given))
        if self.start > self.end:
            raise SettingsError("start", f"start: {self.start:g} is after end, {self.end:g}; it must not be")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Settings:
        """Settings from names and values, as they come from JSON, a query string or infotext.

        Raises:
            SettingsError: a value is wrong, or a name is unknown; then the nearest right name is given.
        """
        for name in values:
            if name not in KNOBS:
                raise unknown_name(name, KNOBS)
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Every field with its value; `from_dict` takes it back."""
        return dataclasses.asdict(self)

    @staticmethod
    def schema() -> dict[str, Any]:
        """A JSON Schema of what `from_dict` accepts, with every field's label and help."""
        return {
            "title": "ToDo settings",
            "type": "object",
            "additionalProperties": False,
            "properties": {name: knob.schema() for name, knob in KNOBS.items()},
        }


def unknown_name(name: Any, known: Any) -> SettingsError:
    """The error for a name that is not among `known`, naming the nearest right one."""
    text = str(name)[:80]
    near = difflib.get_close_matches(text, list(known), n=1, cutoff=0)
    # Inside its quotes a name's repr is printable.
    return SettingsError(text, f"{repr(text)[1:-1]}: there is no such setting; did you mean {near[0]}?")


def implied_mode(given: Iterable[str]) -> str:
    """The mode in which the knobs named act; the default where they act in both."""
    modes = {mode for name in given if (mode := KNOBS[name].mode)}
    if len(modes) > 1:
        raise SettingsError(
            "mode", f"mode: {', '.join(sorted(given))} act in different modes; set mode to {KNOBS['mode'].allowed}"
        )
    return modes.pop() if modes else KNOBS["mode"].default


KNOBS: dict[str, Knob] = {f.name: Knob(name=f.name, **f.metadata["row"]) for f in dataclasses.fields(Settings)}
"""The table, by name, in the order of the controls on the page."""
