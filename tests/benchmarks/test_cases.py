"""What a run measures: what was asked for, and what stands where nothing was."""

from __future__ import annotations

import pytest
import torch

from benchmarks.speed import cases
from benchmarks.speed.methods import METHODS
from todo import Settings, SettingsError

ODD = Settings(factor=3)


def ask(**given) -> cases.Task:
    blank = dict.fromkeys(("dtype", "sizes", "compare", "settings", "rounds"))
    return cases.task(**{"model": "sd1", "device": "cpu", "published": False, **blank, **given})


def names(case: cases.Case) -> list[str]:
    return [method.name for method in case.methods]


def test_a_task_without_options_is_quick():
    made = ask()
    (case,) = made.cases
    assert (case.size, case.rounds, made.dtype) == ((768, 768), 2, "float32")
    assert names(case) == ["dense", "ToDo", "ToDo grid 32"]
    on_cuda = ask(device="cuda")
    assert (on_cuda.cases[0].rounds, on_cuda.dtype) == (10, "float16")


@pytest.mark.parametrize("there", [True, False])
def test_auto_is_cuda_where_there_is_one(monkeypatch, there):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert ask(device="auto").device == ("cuda" if there else "cpu")


def test_a_task_has_what_the_options_say():
    chosen = {"compare": ["limit", "dense"], "settings": ODD, "rounds": 5, "dtype": "bfloat16", "batch": 2}
    made = ask(sizes=["512", "1024x768", "512"], **chosen)
    assert [case.size for case in made.cases] == [(512, 512), (1024, 768)]
    assert {case.rounds for case in made.cases} == {5}
    assert names(made.cases[0]) == ["dense", "limit", "ToDo factor 3"]
    assert (made.dtype, made.batch) == ("bfloat16", 2)


def test_methods_are_each_measured_once():
    assert names(ask(compare=["all"]).cases[0]) == list(METHODS)
    assert names(ask(compare=["ToDo", "ToDo"], settings=Settings()).cases[0]) == ["dense", "ToDo"]
    assert names(ask(settings=ODD).cases[0]) == ["dense", "ToDo factor 3"]


@pytest.mark.parametrize("model", ["sd1", "sd2", "sdxl"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_published_run_measures_what_matters_beside_dense_and_the_limit(model, device):
    made = ask(model=model, device=device, published=True)
    for case in made.cases:
        assert names(case)[0] == "dense"
        assert {"ToDo", "limit"} <= set(names(case))
    assert {(1024, 1024), (1536, 1536), (2048, 2048)} <= {case.size for case in made.cases}
    asked = ask(model=model, device=device, published=True, rounds=7)
    assert {case.rounds_of(method) for case in asked.cases for method in case.methods} == {7}


@pytest.mark.parametrize("given", [{"sizes": ["512"]}, {"compare": ["limit"]}, {"settings": ODD}])
def test_what_is_published_cannot_be_chosen(given):
    with pytest.raises(SettingsError, match="published: has sizes, methods and settings of its own") as refused:
        ask(published=True, **given)
    assert refused.value.field == "published"


@pytest.mark.parametrize(
    ("size", "field", "value", "allowed"),
    [
        ("1000", "size", "1000", "multiples of 64"),
        ("768x1000", "size", "768x1000", "multiples of 64"),
        ("0", "width", "0", "a whole number from 64 to 16384"),
        ("x", "width", "", "a whole number from 64 to 16384"),
        ("512x", "height", "", "a whole number from 64 to 16384"),
        ("64x64x64", "height", "64x64", "a whole number from 64 to 16384"),
        ("20480", "width", "20480", "a whole number from 64 to 16384"),
        ("512x20480", "height", "20480", "a whole number from 64 to 16384"),
    ],
)
def test_a_wrong_size_is_refused(size, field, value, allowed):
    with pytest.raises(SettingsError) as refused:
        ask(sizes=["512", size])
    assert refused.value.field == field
    said = str(refused.value)
    assert said.startswith(f"{field}: {value!r} is not allowed; ")
    assert allowed in said


def test_sides_follow_the_models_halvings():
    """SD1 halves the latent three times, SDXL twice."""
    assert ask(model="sdxl", sizes=["96x160"]).cases[0].size == (96, 160)
    with pytest.raises(SettingsError, match="multiples of 64"):
        ask(model="sd1", sizes=["96x160"])
    with pytest.raises(SettingsError, match="multiples of 32"):
        ask(model="sdxl", sizes=["80x160"])


def test_an_unknown_method_is_refused():
    with pytest.raises(
        SettingsError, match="compare: 'tome' is not allowed; it must be one of dense, ToDo, "
    ) as refused:
        ask(compare=["limit", "tome"])
    assert refused.value.field == "compare"
    assert all(name in str(refused.value) for name in METHODS)
