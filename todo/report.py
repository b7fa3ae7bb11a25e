"""What happened in self-attention: counts of calls, and the report made from them."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from .compiled import is_compiling
from .schedule import FROM_SIZE, from_size
from .settings import Settings
from .unet import SelfAttention

Grid = tuple[int, int]

# Each reason completes a sentence such as 'left whole …'. Without commas and colons, infotext needs no quotes.
GRADIENTS = "while gradients are computed"
MASK = "with an attention mask"
NO_GRID = "without a known token grid"
NO_QUERY = "with keys computed before the queries"
OTHER_BATCH = "with different batch sizes of keys and queries (tiled by HyperTile or another extension)"
OTHER_TOKENS = (
    "with a token count that is not a multiple of the grid (tiled or merged by HyperTile or token merging or another "
    "extension)"
)
NOT_TOKENS = "with an input that is not batch × tokens × channels"
REPLACED = "with projections replaced by another extension that may need every token"
BYPASSED = "with the key projection bypassed (fused or cached or compiled or replaced by another extension)"
OTHER_MODEL = "on {} (ToDo is for SD1/SD2/SDXL)"
NEVER_CALLED = "on this model whose own attention was never called (another engine such as TensorRT may run the UNet)"


@dataclass(frozen=True)
class BlockReport:
    """What happened in one self-attention block at one grid size.

    Attributes:
        name: path of the block within its UNet; for a ControlNet it begins with 'controlnet.' and a number.
        level: 1 for the model's finest self-attention level, 2 for the level at half that size, and so on.
        grid: the token grid (h, w); None if the block was not called.
        tokens: keys per grid before downsampling.
        kept: keys per grid after downsampling; the smallest number if a taper changed it.
        calls: number of attention calls.
        skips: how many of these calls were left whole, by reason.
        depth: how many times the latent was halved before the block.
    """

    name: str
    level: int
    grid: Grid | None
    tokens: int
    kept: int
    calls: int
    skips: dict[str, int]
    depth: int = 0

    @property
    def downsampled(self) -> int:
        """The number of calls that were downsampled."""
        return self.calls - sum(self.skips.values())


def skips(rows: Iterable[BlockReport]) -> Counter[str]:
    """The number of calls that were left whole, by reason, over all `rows`."""
    total: Counter[str] = Counter()
    for row in rows:
        total.update(row.skips)
    return total


def why_none(rows: Iterable[BlockReport], settings: Settings) -> str:
    """Why no call was downsampled, to complete 'no effect …'; '' if one was."""
    rows = list(rows)
    if any(row.downsampled for row in rows):
        return ""
    reasons = skips(rows)
    if not reasons:
        return NEVER_CALLED
    reason = reasons.most_common(1)[0][0]
    size = from_size(reason, settings, min(row.depth for row in rows))
    return f"{reason} {FROM_SIZE.format(size)}" if size else reason


def in_words(rows: Iterable[BlockReport]) -> list[str]:
    """What was downsampled and what was left whole: a line for each level and grid size."""
    groups: dict[tuple[int, Grid], list[BlockReport]] = defaultdict(list)
    for row in rows:
        if row.grid:
            groups[row.level, row.grid].append(row)
    return [_line(*key, group) for key, group in groups.items()]


def _line(level: int, grid: Grid, group: list[BlockReport]) -> str:
    kept, calls = min(row.kept for row in group), sum(row.calls for row in group)
    text = f"level {level}, {grid[1]}×{grid[0]}: keys/values {group[0].tokens} → {kept}"
    text += f" in {sum(row.downsampled for row in group)} of {calls} attention calls"
    whole = ", ".join(f"{count} {reason}" for reason, count in skips(group).items())
    return f"{text} (left whole: {whole})" if whole else text


class Event(NamedTuple):
    """What happened in a call.

    Attributes:
        where: the hooks of a block, or of a transformer for all its blocks. Compiled code writes its attribute `seen`.
        grid: the token grid (h, w); None if it is not known.
        kept: tokens per grid after downsampling; None if that did not happen.
        reason: why it was left whole, or ''. A transformer that ends has the reason `BYPASSED`, which holds for the
            blocks that have no event of their own.
    """

    where: Any
    grid: Grid | None
    kept: int | None
    reason: str


class _Seen:
    """An event in compiled code, counted when the object goes: when the next one takes its place, or a report is made.
    Compiled code can put an object in a place; but a number that it counts up would be compiled anew at each call."""

    tally: Tally | None = None  # in one that was not made to the end

    def __init__(self, tally: Tally, event: Event):
        self.event = event
        self.tally = tally

    def __del__(self) -> None:
        if self.tally is not None:
            self.tally.count(self.event)


class Tally:
    """What happened in the calls of a network, in all threads."""

    def __init__(self) -> None:
        self._counts: Counter[Event] = Counter()
        self._lock = threading.RLock()

    def add(self, where: Any, grid: Grid | None, kept: int | None = None, reason: str = "") -> None:
        event = Event(where, grid, kept, reason)
        if is_compiling():
            where.seen = _Seen(self, event)
        else:
            self.count(event)

    def count(self, event: Event) -> None:
        with self._lock:
            self._counts[event] += 1

    def rows(self, block: SelfAttention, own: Any, outer: Any) -> Iterator[BlockReport]:
        """A row for each grid that a block was called with; one without a grid if it was not called.

        Args:
            own, outer: `Event.where` of the block and of its transformer.
        """
        own.seen = outer.seen = None
        with self._lock:
            counts = [each for each in self._counts.items() if each[0].where in (own, outer)]
        for grid in dict.fromkeys(event.grid for event, _ in counts) or [None]:
            left: Counter[str] = Counter()
            kept = tokens = grid[0] * grid[1] if grid else 0
            downsampled = 0
            for event, count in counts:
                if event.grid != grid:
                    continue
                if event.where is own:
                    left[BYPASSED] -= count
                if event.reason:
                    left[event.reason] += count
                else:
                    downsampled += count
                    kept = min(kept, event.kept or kept)
            left = +left
            calls = downsampled + left.total()
            yield BlockReport(block.name, block.resolution, grid, tokens, kept, calls, dict(left), block.depth)
