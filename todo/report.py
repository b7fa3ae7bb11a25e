"""What happened in self-attention: counts of calls, and the report made from them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from .hook import Grid
from .unet import SelfAttention

# Each reason completes a sentence such as 'left whole …'. Without commas and colons, infotext needs no quotes.
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
    """

    name: str
    level: int
    grid: Grid | None
    tokens: int
    kept: int
    calls: int
    skips: dict[str, int]

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


def why_none(rows: Iterable[BlockReport]) -> str:
    """Why no call was downsampled, to complete 'no effect …'; '' if one was."""
    rows = list(rows)
    if any(row.downsampled for row in rows):
        return ""
    reasons = skips(rows)
    return reasons.most_common(1)[0][0] if reasons else NEVER_CALLED


class _LevelReport(NamedTuple):
    """The blocks of one level at one grid size, added up. The fields are the columns of the table."""

    level: int
    grid: str
    tokens: int
    kept: int
    calls: int
    downsampled: int
    left_whole: str


_HEAD = ("level", "grid (w×h)", "keys/values", "kept", "calls", "downsampled", "left whole")


def summary(rows: Iterable[BlockReport]) -> str:
    """What was downsampled and what was left whole, by level and grid size, in one line."""
    return "; ".join(map(_in_words, _by_level(rows)))


def _in_words(row: _LevelReport) -> str:
    text = f"level {row.level}, {row.grid}: keys/values {row.tokens} → {row.kept}"
    text += f" in {row.downsampled} of {row.calls} attention calls"
    return f"{text} (left whole: {row.left_whole})" if row.left_whole else text


def table(rows: Iterable[BlockReport]) -> str:
    """The same as a table with a line for each level and grid size."""
    lines = [_HEAD, *(tuple(map(str, row)) for row in _by_level(rows))]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)][:-1]
    padded = ([*(cell.rjust(width) for cell, width in zip(line, widths, strict=False)), line[-1]] for line in lines)
    return "\n".join("  ".join(line).rstrip() for line in padded)


def _by_level(rows: Iterable[BlockReport]) -> Iterator[_LevelReport]:
    groups: dict[tuple[int, Grid], list[BlockReport]] = defaultdict(list)
    for row in rows:
        if row.grid:
            groups[row.level, row.grid].append(row)
    for (level, (h, w)), group in groups.items():
        yield _LevelReport(
            level=level,
            grid=f"{w}×{h}",
            tokens=group[0].tokens,
            kept=min(row.kept for row in group),
            calls=sum(row.calls for row in group),
            downsampled=sum(row.downsampled for row in group),
            left_whole=", ".join(f"{count} {reason}" for reason, count in skips(group).items()),
        )


class Event(NamedTuple):
    """A kind of call that is counted.

    Attributes:
        block: the block's number in its transformer; None for a call of the transformer, with all its blocks.
        kept: tokens per grid after downsampling; None for a call that was left whole.
        reason: why it was left whole; '' for a call that was downsampled, or in which each block was to decide.
    """

    block: int | None
    grid: Grid | None
    kept: int | None
    reason: str


class Counts:
    """What one thread has counted at one transformer. Each thread has its own, so that none is lost between threads.

    Args:
        blocks: of the transformer.
    """

    def __init__(self, blocks: int) -> None:
        self._numbers = (*range(blocks), None)
        self._whole: Counter[Event] = Counter()
        self._downsampled: dict[tuple[Grid, int], list[int]] = {}

    def add(self, event: Event) -> None:
        """Counts a call that was left whole."""
        self._whole[event] += 1

    def downsampled(self, grid: Grid, kept: int) -> list[int]:
        """The counts of calls that are downsampled alike, to be counted up in place: by block, and in the end those of
        the transformer."""
        found = self._downsampled.get((grid, kept))
        if found is None:
            found = self._downsampled[grid, kept] = [0] * len(self._numbers)
        return found

    def total(self) -> Counter[Event]:
        total = Counter(self._whole)
        for (grid, kept), counts in list(self._downsampled.items()):
            for number, count in zip(self._numbers, counts, strict=True):
                total[Event(number, grid, kept, "")] += count
        return +total


def rows(blocks: Iterable[SelfAttention], threads: Iterable[Counts]) -> Iterator[BlockReport]:
    """The report on the blocks of one transformer: a row for each grid size. A block that was not called has a row
    without a grid."""
    total: Counter[Event] = Counter()
    for counts in threads:
        total.update(counts.total())
    for number, block in enumerate(blocks):
        events = {event: count for event, count in total.items() if event.block in (None, number)}
        for grid in dict.fromkeys(event.grid for event in events) or [None]:
            yield _row(block, grid, {event: count for event, count in events.items() if event.grid == grid})


def _row(block: SelfAttention, grid: Grid | None, events: dict[Event, int]) -> BlockReport:
    entered = sum(count for event, count in events.items() if event.block is None and not event.reason)
    own = sum(count for event, count in events.items() if event.block is not None)
    skipped: Counter[str] = Counter()
    for event, count in events.items():
        if event.reason:
            skipped[event.reason] += count
    if entered > own:
        skipped[BYPASSED] += entered - own
    kept = [event.kept for event in events if event.block is not None and event.kept is not None]
    whole = sum(count for event, count in events.items() if event.block is None and event.reason)
    tokens = grid[0] * grid[1] if grid else 0
    calls = whole + max(own, entered)
    return BlockReport(block.name, block.resolution, grid, tokens, min(kept, default=tokens), calls, dict(skipped))
