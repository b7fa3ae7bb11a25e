"""What a speed run measures: the task for given options, and its defaults."""

from __future__ import annotations

import pytest
import torch

from benchmarks.speed import cases
from benchmarks.speed.methods import DEFAULT, METHODS
from todo import Settings, SettingsError

FACTOR_3 = Settings(factor=3)


def task(**options) -> cases.Task:
    defaults = {"model": "sd1", "device": "cpu", "published": False}
    not_given = dict.fromkeys(("dtype", "sizes", "compare", "settings", "rounds"))
    return cases.task(**{**defaults, **not_given, **options})


def names(case: cases.Case) -> list[str]:
    return [method.name for method in case.methods]


def test_a_task_without_options_is_quick():
    quick = task()
    (case,) = quick.cases
    assert (case.size, case.rounds, quick.dtype) == ((768, 768), 2, "float32")
    assert names(case) == ["dense", "ToDo, 48 per side", "ToDo, 32 per side"]
    on_cuda = task(device="cuda")
    assert (on_cuda.cases[0].rounds, on_cuda.dtype) == (10, "float16")


@pytest.mark.parametrize("available", [True, False])
def test_auto_is_cuda_if_available(monkeypatch, available):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert task(device="auto").device == ("cuda" if available else "cpu")


def test_a_task_follows_the_options():
    options = {"compare": ["limit", "dense"], "settings": FACTOR_3, "rounds": 5, "dtype": "bfloat16", "batch": 2}
    chosen = task(sizes=["512", "1024x768", "512"], **options)
    assert [case.size for case in chosen.cases] == [(512, 512), (1024, 768)]
    assert {case.rounds for case in chosen.cases} == {5}
    assert names(chosen.cases[0]) == ["dense", "limit", "ToDo factor 3"]
    assert (chosen.dtype, chosen.batch) == ("bfloat16", 2)


def test_each_method_is_measured_once():
    assert names(task(compare=["all"]).cases[0]) == list(METHODS)
    same = task(compare=["ToDo, 64 per side", "ToDo, 64 per side"], settings=Settings(grid=64))
    assert names(same.cases[0]) == ["dense", "ToDo, 64 per side"]
    assert names(task(settings=FACTOR_3).cases[0]) == ["dense", "ToDo factor 3"]


@pytest.mark.parametrize("model", ["sd1", "sd2", "sdxl"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_published_run_compares_todo_with_dense_and_the_limit(model, device):
    published = task(model=model, device=device, published=True)
    for case in published.cases:
        assert names(case)[0] == "dense"
        assert {DEFAULT, "limit"} <= set(names(case))
    assert {(1024, 1024), (1536, 1536), (2048, 2048)} <= {case.size for case in published.cases}
    seven_rounds = task(model=model, device=device, published=True, rounds=7)
    assert {case.rounds for case in seven_rounds.cases} == {7}


@pytest.mark.parametrize("option", [{"sizes": ["512"]}, {"compare": ["limit"]}, {"settings": FACTOR_3}])
def test_the_published_run_fixes_sizes_methods_and_settings(option):
    with pytest.raises(SettingsError, match="published: fixes sizes, methods and settings") as refused:
        task(published=True, **option)
    assert refused.value.field == "published"


@pytest.mark.parametrize("size", ["1000", "768x1000", "0", "x", "512x", "64x64x64", "20480", "512x20480"])
def test_a_wrong_size_is_refused(size):
    with pytest.raises(SettingsError, match=f"^size: '{size}' is not allowed.*multiples of 64, up to 16384") as refused:
        task(sizes=["512", size])
    assert refused.value.field == "size"


def test_sides_must_be_divisible_by_the_models_halvings():
    """SD1 halves the latent three times, SDXL twice."""
    assert task(model="sdxl", sizes=["96x160"]).cases[0].size == (96, 160)
    with pytest.raises(SettingsError, match="multiples of 64"):
        task(model="sd1", sizes=["96x160"])
    with pytest.raises(SettingsError, match="multiples of 32"):
        task(model="sdxl", sizes=["80x160"])


def test_an_unknown_method_is_refused():
    with pytest.raises(
        SettingsError, match="compare: 'tome' is not allowed; it must be one of dense, ToDo, "
    ) as refused:
        task(compare=["limit", "tome"])
    assert refused.value.field == "compare"
    assert all(name in str(refused.value) for name in METHODS)
