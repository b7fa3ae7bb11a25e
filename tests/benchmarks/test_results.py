"""Results of a speed run: JSON, and derived figures worked out by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.environment import Environment
from benchmarks.speed import plot, report, results
from benchmarks.speed.methods import METHODS
from benchmarks.speed.results import OUT_OF_MEMORY, Counted, Result, Row, SizeResult
from benchmarks.speed.split import KINDS, Split
from todo import Settings, SettingsError
from todo.settings import KNOBS

ENVIRONMENT = Environment("2026-01-02", "A × B", "system", "cpu", 1, "processor time", "float32", {"torch": "2.0"})


def split(seconds: float) -> Split:
    return Split(dict.fromkeys(KINDS, seconds), {"1": seconds / 2, "2": seconds / 4, "middle": seconds / 4})


def row(method: str, *seconds: float | None) -> Row:
    measured = [each for each in seconds if each is not None]
    return Row(method, seconds, split=split(measured[0]) if measured else None)


def size(side: int, *rows: Row) -> SizeResult:
    return SizeResult(side, side, rows, identical=True)


def result(*sizes: SizeResult, interrupted: bool = False) -> Result:
    methods = {row.method: f"about {row.method}" for each in sizes for row in each.rows}
    return Result(ENVIRONMENT, "sd1", 10, 1, 0, methods, sizes, interrupted)


MEASURED = size(512, row("dense", 8, 12), row("ToDo", 4, 3), row("limit", 2, None), row("late", None, None))


@st.composite
def any_settings(draw) -> Settings:
    factors = st.floats(1, 8)
    level = draw(
        st.fixed_dictionaries({"mode": st.just("manual"), "factor": factors, "deep_factor": factors})
        | st.fixed_dictionaries({"grid": st.integers(16, 128)})
    )
    chosen = {name: draw(st.sampled_from(KNOBS[name].choices)) for name in ("phase", "method", "passes")}
    return Settings(
        **level, **chosen, start=draw(st.floats(0, 0.5)), end=draw(st.floats(0.6, 1)), taper=draw(st.booleans())
    )


numbers = st.integers(0, 10**6)
counted = st.builds(
    Counted, st.sampled_from([1, 2, 4]), st.tuples(numbers, numbers), numbers, numbers, numbers, numbers
)
seconds = st.none() | st.floats(1e-6, 1e4)
rows = st.builds(
    Row,
    method=st.sampled_from(["dense", "ToDo", "limit"]),
    seconds=st.tuples(seconds, seconds),
    note=st.sampled_from(["", OUT_OF_MEMORY]),
    settings=st.none() | any_settings(),
    counted=st.lists(counted, max_size=2).map(tuple),
    predicted_work_change=st.none() | st.floats(-1, 0),
    peak_bytes=st.none() | st.integers(0, 2**50),
    split=st.none() | st.floats(1e-6, 1e3).map(split),
)
sides = st.integers(64, 4096)
measured = st.lists(rows, min_size=1, max_size=3).map(tuple)
sizes = st.lists(st.builds(SizeResult, sides, sides, measured, st.none() | st.booleans()), max_size=3)


@given(sizes, st.booleans())
def test_json_is_read_back(sizes, interrupted):
    written = result(*sizes, interrupted=interrupted)
    assert results.from_json(json.loads(json.dumps(results.to_json(written)))) == written


def test_a_file_is_read_back(tmp_path):
    written = result(MEASURED)
    results.write(written, tmp_path / "r.json")
    assert results.read(tmp_path / "r.json") == written
    assert "A × B" in (tmp_path / "r.json").read_text(encoding="utf-8")  # not escaped


def test_json_has_derived_figures():
    dense, todo, limit, late = results.to_json(result(MEASURED))["sizes"][0]["rows"]
    assert dense["seconds"] == {"median": 10, "low": 8, "high": 12, "rounds": [8, 12]}
    assert todo["speedup"] == {"median": 3, "low": 2, "high": 4}
    assert todo["limit_share"] == {"median": 0.5, "low": 0.5, "high": 0.5}
    assert limit["speedup"] == {"median": 4, "low": 4, "high": 4}
    assert dense["speedup"] == limit["limit_share"] == late["speedup"] == {}
    assert late["seconds"] == {"rounds": [None, None]}


def test_growth_of_the_finest_level_and_of_all():
    measured = result(size(512, row("dense", 1.0), row("ToDo", 1.0)), size(1024, row("dense", 16.0), row("ToDo", None)))
    for level, first in ((results.FINEST, 0.5), (results.ALL_LEVELS, 1.0)):
        assert list(measured.growth(level)) == ["dense"]
        law = measured.growth(level)["dense"]
        assert law.tokens == (64 * 64, 128 * 128)
        assert law.seconds == (first, 16 * first)
        assert law.exponent == pytest.approx(2)
    sdxl = replace(measured, model="sdxl").growth(results.FINEST)["dense"]
    assert sdxl.tokens == (32 * 32, 64 * 64)


def test_identical_combines_the_sizes_that_were_compared():
    same, different, unknown = (replace(MEASURED, identical=identical) for identical in (True, False, None))
    assert result(same, unknown).identical is True
    assert result(same, different).identical is False
    assert result(unknown).identical is None


def test_a_run_continues_with_an_earlier_runs_sizes():
    whole = size(512, row("dense", 8, 12), row("ToDo", 4, 3))
    earlier = result(whole, replace(whole, width=1024, height=1024))
    new = replace(earlier, sizes=(), interrupted=True)
    continued = new.continuing(earlier)
    assert continued.sizes == earlier.sizes
    remeasured = replace(earlier.sizes[1], identical=None)
    assert continued.including(remeasured).sizes == (earlier.sizes[0], remeasured)
    assert new.including(remeasured).sizes == (remeasured,)
    elsewhere = replace(ENVIRONMENT, machine="another")
    for other in (replace(earlier, batch=2), replace(earlier, steps=20), replace(earlier, environment=elsewhere)):
        with pytest.raises(SettingsError, match="another model, batch, machine or version"):
            new.continuing(other)
    yesterday = replace(earlier, environment=replace(ENVIRONMENT, date="2001-01-01"))
    assert new.continuing(yesterday).sizes == earlier.sizes


def test_published_results_can_be_read():
    published = results.read(Path(__file__).parents[2] / "benchmarks" / "results" / "sd1-cpu.json")
    assert published.identical
    assert set(published.methods) <= set(METHODS)


def test_the_table_shows_figures_and_leaves_gaps():
    lines = report.table(result(MEASURED)).splitlines()
    shown = {line.split()[1]: line.split()[2:] for line in lines if line.startswith("512×512")}
    assert shown["dense"] == ["10.00", "(8.00–12.00)", "25%", "(25%–25%)"]
    assert shown["ToDo"] == ["3.50", "(3.00–4.00)", "3.00×", "(2.00–4.00)", "50%", "(50%–50%)"]
    assert shown["late"] == []
    assert "0.0123 (0.0123–0.0123)" in report.table(result(size(512, row("dense", 0.0123))))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("missing", [{"dense"}, {"dense", "ToDo"}, {"ToDo", "limit"}, {"dense", "ToDo", "limit"}])
@pytest.mark.parametrize("number", [1, 3])
def test_a_plot_is_drawn_if_methods_ran_out_of_memory(tmp_path, missing, number):
    seconds = {"dense": 8.0, "ToDo": 4.0, "limit": 2.0}
    drawn = [
        Row(name, (None,), OUT_OF_MEMORY) if name in missing else row(name, value) for name, value in seconds.items()
    ]
    plot.save(result(*(size(512 * (index + 1), *drawn) for index in range(number))), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000


def test_a_size_that_was_left_incomplete_is_measured_anew():
    earlier = result(MEASURED, size(1024, row("dense", 8.0), row("ToDo", 4.0)), interrupted=True)
    again = replace(earlier, sizes=(), interrupted=False).continuing(earlier)
    assert [each.label for each in again.sizes] == ["1024×1024"]
