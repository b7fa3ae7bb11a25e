"""Results of a speed run: JSON, derived figures worked out by hand, and figures of yesterday under today's names."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.environment import Environment
from benchmarks.method import DENSE, StaleError
from benchmarks.speed import plot, report, results
from benchmarks.speed.methods import DEFAULT, LIMIT, METHODS, PAPER, per_side
from benchmarks.speed.results import Result, Row, SizeResult, Spread, keeps_all, present
from todo import SettingsError

ENVIRONMENT = Environment("2026-01-02", "A × B", "system", "cpu", 1, "processor time", "float32", {"torch": "2.0"})
ALL, QUARTER, OTHER = (4096, 1024, 256), (1024, 256, 64), (2304, 576, 144)
"""Keys of SD1.5 at 512²: all, a quarter, and what no setting of today keeps there."""


def size(side: int, *rows: Row) -> SizeResult:
    return SizeResult(side, side, rows)


def result(*sizes: SizeResult) -> Result:
    return Result(ENVIRONMENT, "sd1", 1, 0, sizes)


MEASURED = size(
    512, Row(DENSE, (8, 12)), Row("ToDo", (4, 3), QUARTER), Row("limit", (2, None)), Row("late", (None, None))
)


def test_a_file_is_read_back(tmp_path):
    written = result(MEASURED, size(1024, Row(DENSE, (None,), out_of_memory=True, peak_bytes=5)))
    results.write(written, tmp_path / "r.json")
    assert results.read(tmp_path / "r.json") == written
    assert "A × B" in (tmp_path / "r.json").read_text(encoding="utf-8")  # not escaped


def test_a_spread_has_median_and_quartiles():
    assert Spread.of([5, 1, 2, 3, 4]) == Spread(3, 2, 4)
    assert Spread.of([1, 3]) == Spread(2, 1, 3)
    assert Spread.of([7]) == Spread(7, 7, 7)
    assert Spread.of([]) is None


def test_ratios_are_taken_round_by_round():
    assert MEASURED.speedup("ToDo") == Spread(3, 2, 4)
    assert MEASURED.speedup("ToDo", over="limit") == Spread(0.5, 0.5, 0.5)
    assert MEASURED.speedup("late") is MEASURED.speedup("unknown") is None


def test_a_run_continues_with_an_earlier_runs_sizes():
    whole = size(512, Row(DENSE, (8, 12)), Row("ToDo", (4, 3)))
    earlier = result(whole, replace(whole, width=1024, height=1024))
    new = replace(earlier, sizes=())
    continued = new.continuing(earlier)
    assert continued.sizes == earlier.sizes
    again = replace(earlier.sizes[1], rows=earlier.sizes[1].rows[:1])
    assert continued.including(again).sizes == (earlier.sizes[0], again)
    assert new.including(again).sizes == (again,)
    elsewhere = replace(ENVIRONMENT, machine="another")
    for other in (replace(earlier, batch=2), replace(earlier, steps=20), replace(earlier, environment=elsewhere)):
        with pytest.raises(SettingsError, match="another model, batch, machine or version"):
            new.continuing(other)
    yesterday = replace(earlier, environment=replace(ENVIRONMENT, date="2001-01-01"))
    assert new.continuing(yesterday).sizes == earlier.sizes
    assert new.continuing(result(MEASURED, whole)).sizes == (whole,), "an incomplete size is measured anew"


def test_a_row_is_found_by_what_it_kept():
    """Under an earlier rule, 32 per side kept at 512² what 48 and 32 per side keep there today."""
    earlier = result(size(512, Row(DENSE, (8.0,)), Row("ToDo, another name", (4.0,), QUARTER), Row(LIMIT, (2.0,))))
    (today,) = present(earlier).sizes
    assert [row.method for row in today.rows] == [DENSE, DEFAULT, per_side(32), LIMIT]
    assert {row.seconds for row in today.rows[1:3]} == {(4.0,)}


def test_a_row_that_kept_all_had_no_effect():
    earlier = result(size(512, Row(DENSE, (8.0,)), Row(PAPER, (8.0,), ALL), Row(DEFAULT, (4.0,), QUARTER)))
    (today,) = present(earlier).sizes
    assert [keeps_all(today, earlier, name) for name in (per_side(64), PAPER, DEFAULT, LIMIT)] == [
        True, True, False, False
    ]  # fmt: skip


def test_a_row_that_no_method_of_today_gives_is_refused():
    def refused(row: Row) -> str:
        with pytest.raises(StaleError) as error:
            present(result(size(512, Row(DENSE, (8.0,)), row)))
        return str(error.value)

    assert refused(Row(DEFAULT, (4.0,), OTHER)) == (f"{DEFAULT!r} at 512² kept {OTHER} keys; today it keeps {QUARTER}")
    assert refused(Row("ToDo factor 3", (4.0,), OTHER)).endswith("no method of today does")
    assert refused(Row("a peer", (4.0,))) == "'a peer' at 512² is no method of today"


def test_the_table_shows_figures_and_leaves_gaps():
    lines = report.table(result(MEASURED)).splitlines()
    shown = {line.split()[1]: line.split()[2:] for line in lines if line.startswith("512²")}
    assert shown[DENSE] == ["10.00", "(8.00–12.00)"]
    assert shown["ToDo"] == ["1024,", "256,", "64", "3.50", "(3.00–4.00)", "×3.00", "(2.00–4.00)"]
    assert shown["late"] == []
    assert "0.0123" in report.table(result(size(512, Row(DENSE, (0.0123,)))))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("missing", [set(), {DENSE}, {DEFAULT, LIMIT}])
@pytest.mark.parametrize("names", [[DENSE, DEFAULT, LIMIT], [*METHODS, "ToDo factor 3"]], ids=["few", "all"])
@pytest.mark.parametrize("number", [1, 3])
def test_a_plot_draws_medians(missing, names, number):
    """Methods that ran out of memory have no curve, and of many methods a selection is drawn."""
    rows = [Row(name, (None,) if name in missing else (8.0,), out_of_memory=name in missing) for name in names]
    figure = plot.draw(result(*(size(512 * (index + 1), *rows) for index in range(number))))
    figure.draw_without_rendering()
    drawn = {text.get_text() for text in figure.axes[0].get_legend().get_texts()} - {DENSE}
    chosen = {plot._CURVES[name][1] for name in names if name in plot._CURVES and name not in missing}
    assert drawn == (set() if DENSE in missing else chosen)
