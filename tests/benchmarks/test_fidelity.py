"""The fidelity run: methods keep what their names say, scores are correct, UNets are restored, and results say what
made them."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import similarity
from benchmarks.commands import main
from benchmarks.environment import describe, made_by
from benchmarks.fidelity import plot, report, results, run
from benchmarks.fidelity.attention import effective_share, stride
from benchmarks.fidelity.methods import GRIDS, METHODS, ONE_KEY, PAPER, PUBLISHED, named, of_trained, picks
from benchmarks.fidelity.scores import Score, layout, score
from benchmarks.hooks import attached
from benchmarks.method import DENSE, StaleError
from benchmarks.peers import finest
from benchmarks.sampling import Request, Sampling
from benchmarks.speed.methods import per_side, todo_with
from benchmarks.tiny import model
from benchmarks.tiny.sampler import TinyImageModel
from todo import Settings, SettingsError, schedule
from todo.downsample import kept_tokens
from todo.schedule import Moment, factor_at
from todo.unet import find_self_attention

SIZE = (64, 64)
REQUEST = Request("a cat", (0,), SIZE, Sampling(5))
PAPER_2 = named(PAPER, 2)

UNCHANGED = {DENSE, *map(of_trained, GRIDS)}
"""Methods without effect at this size, which is smaller than the trained one."""


@pytest.fixture(scope="module")
def image_model(tiny_model):
    return TinyImageModel(tiny_model)


def scores_of(image_model, request, names) -> list[Score]:
    return [each for each, _ in score(image_model, request, [METHODS[name] for name in names], perceptual=False)]


@pytest.fixture(scope="module")
def scores(image_model):
    """Of the published methods and of one key, without perceptual distances."""
    return [
        each
        for seed in (0, 1)
        for each in scores_of(image_model, replace(REQUEST, seeds=(seed,)), [*PUBLISHED, ONE_KEY])
    ]


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].factor])
def test_every_method_keeps_one_of_f_squared_tokens(image_model, name):
    """At the finest level, whose 24×24 tokens all factors divide."""
    (found,) = scores_of(image_model, Request("a cat", (0,), (96, 96), Sampling(1)), [name])
    assert found.kept[0] == (24 / METHODS[name].factor) ** 2


@pytest.mark.parametrize("grid", GRIDS)
def test_a_grid_is_the_same_share_of_the_trained_one_as_with_sd1(tiny_model, grid):
    """At twice the trained size, as 1024² is for SD1.5 with its 128 × 128 tokens."""
    shares = []
    for name, side in ((of_trained(grid), 64), (per_side(grid), 128)):
        with METHODS[name].apply(tiny_model.unet, (side, side)) as patch:
            factor, _ = factor_at(patch.settings, 1, (side, side), Moment())
        shares.append(kept_tokens((side, side), factor) / side**2)
    assert shares == [(grid / 128) ** 2] * 2


def test_dense_images_have_perfect_scores(scores):
    for each in scores:
        if each.method in UNCHANGED:
            assert (each.mse, each.psnr) == (0, pytest.approx(100))
            assert each.ssim == pytest.approx(1)
        assert math.isnan(each.effective_keys) == (each.method != DENSE or each.seed > 0)


def test_scores_compare_with_the_dense_images(image_model, scores):
    method = METHODS[PAPER_2]
    selected = [each for each in scores if each.method == method.name]
    assert [(each.prompt, each.seed, each.size) for each in selected] == [("a cat", 0, SIZE), ("a cat", 1, SIZE)]
    for each in selected:
        request = replace(REQUEST, seeds=(each.seed,))
        dense = image_model.sample(request)
        with method.apply(image_model.unet, (16, 16)) as patch:
            downsampled = image_model.sample(request, patch)
        assert each.mse == pytest.approx(float((dense - downsampled).square().mean()), rel=1e-4)
        pair = image_model.decode(downsampled)[0], image_model.decode(dense)[0]
        assert each.psnr == pytest.approx(similarity.psnr(*pair), rel=1e-3)
        assert each.seconds > 0


def test_every_method_changes_the_image_and_restores_the_model(image_model, scores):
    before = image_model.sample(REQUEST)
    list(score(image_model, REQUEST, [METHODS[name] for name in PUBLISHED]))
    assert torch.equal(image_model.sample(REQUEST), before)
    for each in scores:
        assert (each.mse > 0) == (each.method not in UNCHANGED), each.method


class Full(TinyImageModel):
    """The memory is full as soon as self-attention has more than 16 keys."""

    def sample(self, request, patch=None):
        def fill(module, args, output):
            if output.shape[1] > 16:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

        hooks = (block.attention.to_k.register_forward_hook(fill) for block in finest(self.unet))
        with attached(hooks):
            return super().sample(request, patch)


def test_what_does_not_fit_in_memory_is_a_result(tiny_model, tmp_path):
    """Dense attention has 256 keys here, f=2 has 64 and f=4 has 16."""
    full = Full(tiny_model)
    methods = [METHODS[name] for name in (DENSE, PAPER_2, named(PAPER, 4))]
    made = list(score(full, Request("a cat", (0,), SIZE, Sampling(2)), methods))
    assert [image is not None for _, image in made] == [False, False, True]
    write(tmp_path, result_of(full, [found for found, _ in made], Sampling(2)))
    (read,) = results.read(tmp_path / "r.json")
    assert {row[0]: row[1:3] for row in report.table(read, SIZE)[1]} == {
        DENSE: ["does not fit in memory", ""],
        PAPER_2: ["does not fit in memory", ""],
        named(PAPER, 4): ["dense does not fit in memory", ""],
    }
    assert "effective keys: not measured" in report.text(read)
    assert plot.draw(read).axes


def test_an_error_that_is_not_about_memory_is_raised(tiny_model):
    class Broken(TinyImageModel):
        def sample(self, request, patch=None):
            raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        scores_of(Broken(tiny_model), REQUEST, [DENSE])


@pytest.mark.parametrize(("figure", "head"), [("high_pass", "HPF"), ("lpips", "LPIPS")])
def test_a_figure_that_no_image_has_takes_no_column(result, tmp_path, figure, head):
    for value in (0.25, math.nan):
        known = not math.isnan(value)
        write(tmp_path, replace(result, scores=tuple(replace(each, **{figure: value}) for each in result.scores)))
        (read,) = results.read(tmp_path / "r.json")
        assert (head in report.table(read, SIZE)[0]) == known
        assert (f'"{figure}"' in (tmp_path / "r.json").read_text(encoding="utf8")) == known
        assert all(math.isnan(getattr(each, figure)) != known for each in read.scores)


def test_only_about_a_thousand_queries_of_a_large_image_are_measured():
    assert [stride(tokens) for tokens in (256, 4096)] == [7, 7]
    assert 900 < 192 * 192 / stride(192 * 192) < 1100


def test_the_model_depends_on_attention(scores):
    """A single key gives a larger error than a quarter of the keys."""
    mean = {name: np.mean([each.mse for each in scores if each.method == name]) for name in (PAPER_2, ONE_KEY)}
    assert mean[ONE_KEY] > 2 * mean[PAPER_2]


def test_the_effective_share_is_one_if_all_weights_are_equal():
    uniform = model.load()
    for block in find_self_attention(uniform.unet):
        torch.nn.init.zeros_(block.attention.to_q.weight)
    assert effective_share(TinyImageModel(uniform), replace(REQUEST, sampling=Sampling(2))) == pytest.approx(
        1, abs=1e-4
    )


def test_sharper_attention_has_a_smaller_effective_share(image_model):
    before = image_model.sample(REQUEST)
    shares = [
        effective_share(image_model, replace(REQUEST, sampling=Sampling(2, sharpness=sharpness)))
        for sharpness in (1, 4, 16)
    ]
    assert 1 > shares[0] > 1.5 * shares[1] > 1.5**2 * shares[2]
    assert torch.equal(image_model.sample(REQUEST), before)
    assert not torch.equal(image_model.sample(replace(REQUEST, sampling=Sampling(5, sharpness=2))), before)


def result_of(image_model, scores, sampling=REQUEST.sampling) -> results.Result:
    layouts = {SIZE: layout(image_model, SIZE)}
    return results.Result(describe(image_model.unet), "full", sampling, layouts, tuple(scores))


def write(folder, result) -> None:
    results.write([result], folder / "r.json")


@pytest.fixture(scope="module")
def result(image_model, scores):
    return result_of(image_model, scores)


def test_results_are_written_and_read_back(result, tmp_path):
    write(tmp_path, result)
    (read,) = results.read(tmp_path / "r.json")
    assert replace(read, scores=()) == replace(result, scores=())
    for name in result.methods:
        for new, old in zip(read.of(name), result.of(name), strict=True):
            assert (new.prompt, new.seed, new.size, new.kept, new.picks) == (
                old.prompt, old.seed, old.size, old.kept, old.picks
            )  # fmt: skip
            assert (new.mse, new.psnr) == pytest.approx((old.mse, old.psnr), rel=1e-3)


def test_a_result_says_what_made_it():
    """A version, and a commit in a checkout."""
    assert re.fullmatch(r"\d+\.\d+\.\d+( [0-9a-f]{7,}\+?)?", made_by())


def test_a_figure_is_found_by_the_tokens_that_were_kept(image_model):
    """Whatever the method was called; and one whose tokens the present code would not keep is refused."""
    (found,) = scores_of(image_model, Request("a cat", (0,), (128, 128), Sampling(3)), [named("ToDo", 2)])
    measured = replace(
        result_of(image_model, []), sampling=Sampling(3), scores=(replace(found, method="an earlier name"),),
        layouts={(128, 128): layout(image_model, (128, 128))},
    )  # fmt: skip
    (same,) = measured.of(named("ToDo", 2))
    assert same.mse == found.mse
    assert measured.has(named("ToDo", 2), (128, 128))
    assert not measured.has(named("ToDo", 4), (128, 128))
    with pytest.raises(StaleError, match=r"ToDo, f=4, 128×128, euler, 3 steps: ToDo .* measured no"):
        measured.of(named("ToDo", 4))


@pytest.mark.parametrize("changed", ["rule", "pattern", "nothing"])
def test_a_result_that_the_present_code_would_not_reproduce_is_refused(monkeypatch, changed):
    """The published run, after a change of mode auto's rule or of the order in which a cell's tokens take turns."""
    from benchmarks.fidelity import methods
    from docs.generate import fidelity

    fidelity.published.cache_clear()
    methods._picks.cache_clear()
    if changed == "rule":
        monkeypatch.setattr(schedule, "_LEAST_RATIO", 1.9)
    elif changed == "pattern":
        order = methods.kept_indices
        monkeypatch.setattr(methods, "kept_indices", lambda grid, factor, method, step: order(
            grid, factor, method, step and step + 1))  # fmt: skip
    try:
        if changed == "nothing":
            assert "48 per side" in fidelity.loss_table()
        else:
            with pytest.raises(StaleError, match="measure again"):
                fidelity.size_tables()
    finally:
        methods._picks.cache_clear()


def test_the_present_code_reproduces_a_published_image(image_model):
    """At the trained size, where it takes seconds."""
    (published,) = results.read(Path(__file__).parents[2] / "benchmarks" / "results" / "fidelity.json")
    request = Request("a rocket", (0,), (128, 128), published.sampling)
    for found in scores_of(image_model, request, [DENSE, of_trained(48), PAPER_2]):
        (old,) = [
            each for each in published.of(found.method, (128, 128)) if (each.prompt, each.seed) == ("a rocket", 0)
        ]
        assert found.mse == pytest.approx(old.mse, rel=0.01)
        assert (found.kept, found.picks) == (old.kept, old.picks)


def test_picks_tell_apart_what_makes_other_images(image_model):
    at_twice = layout(image_model, (256, 256))

    def of(**settings) -> str:
        return picks(todo_with(Settings(**settings)), at_twice, 20)

    manual = {"mode": "manual", "factor": 2}
    assert of(**manual) == of(**manual) != picks(METHODS[DENSE], at_twice, 20)
    others = [of(**manual | other) for other in (
        {}, {"phase": "fixed"}, {"deep_factor": 2}, {"method": "nearest-exact"}, {"end": 0.5}, {"factor": 3}
    )]  # fmt: skip
    assert len(set(others)) == len(others)
    assert of(grid=32) == of(**manual, deep_factor=2)
    assert picks(METHODS[PAPER_2], at_twice, 20) == of(**manual, phase="fixed")


def synthetic(result, errors: dict[str, list[float]]):
    """A result of images with given squared errors, by method."""
    scores = [
        Score(name, "a cat", seed, SIZE, (1,), "", error, 30.0 + seed, 0.9, 1.0, 1.0)
        for name, by_seed in errors.items()
        for seed, error in enumerate(by_seed)
    ]
    return replace(result, scores=tuple(scores))


@pytest.mark.parametrize("count", [8, 16, 64])
def test_another_set_of_eight_images_falls_into_the_interval(result, count):
    """About nine of ten do; and the figure is that of all images."""
    random = np.random.default_rng(1)
    inside = []
    for _ in range(200):
        errors, others = (random.lognormal(sigma=0.6, size=(2, images)) for images in (count, 8))
        errors[1] *= errors[0]
        others[1] *= others[0]
        ratio = synthetic(result, {"x": errors[1].tolist(), "y": errors[0].tolist()}).ratio("x", "y")
        assert ratio.value == pytest.approx(errors[1].mean() / errors[0].mean())
        inside.append(ratio.low < others[1].mean() / others[0].mean() < ratio.high)
    assert 0.84 < np.mean(inside) < 0.99


def test_ratios_are_drawn_in_pairs(result):
    """If every image's error is a fifth of the other method's, the interval has no width."""
    errors = np.random.default_rng(2).exponential(size=50)
    ratio = synthetic(result, {"a": (errors / 5).tolist(), "b": errors.tolist()}).ratio("a", "b")
    assert (ratio.value, ratio.low, ratio.high) == (pytest.approx(0.2),) * 3


def test_tables_name_every_method(result):
    head, rows = report.table(result, SIZE)
    assert [row[0] for row in rows] == [*PUBLISHED, ONE_KEY]
    cells = {row[0]: row[head.index("MSE / paper's f=2")] for row in rows}
    assert cells[PAPER_2] == ""
    assert float(cells[ONE_KEY].split()[0]) > 2


def test_a_plot_has_a_panel_for_each_size(result):
    figure = plot.draw(result)
    assert len(figure.axes) == 1
    assert figure.axes[0].get_title().startswith("64×64")


def test_an_unknown_prompt_is_refused(capsys, tmp_path):
    with pytest.raises(SystemExit):
        main(["fidelity", "--prompt", "a dog", "--size", "64", "--seeds", "1", "--output", str(tmp_path)])
    assert "prompt: 'dog' is not a word that the tiny model knows" in capsys.readouterr().err


def test_an_unknown_method_is_refused():
    with pytest.raises(SettingsError, match=r"^compare: 'ToMe' is not allowed; it must be one of dense, ToDo, 64/64"):
        run.methods(["ToMe"])


def test_the_command_writes_its_files_and_goes_on_where_it_was(tmp_path, capsys, monkeypatch):
    def command(*more: str) -> list[str]:
        return ["fidelity", "--size", "64", "64x128", "--prompt", "a cat", "a rocket", "--steps", "3",
                "--compare", "ToDo, f=2", PAPER_2, "--output", str(tmp_path), *more]  # fmt: skip

    assert main(command("--workers", "2")) == 0
    printed = capsys.readouterr().out
    assert "2 prompts × 1 seed at each size · dpm++ 2m, 3 steps, CFG 5 · ToDo " in printed
    assert "\nToDo, f=2 " in printed
    (values,) = json.loads((tmp_path / "fidelity.json").read_text(encoding="utf8"))
    assert [size["size"] for size in values["sizes"]] == [[64, 64], [128, 64]]
    assert (tmp_path / "fidelity.png").read_bytes().startswith(b"\x89PNG")
    seeds = []
    monkeypatch.setattr(run, "score", lambda *arguments: seeds.append(arguments[1].seeds) or score(*arguments))
    assert main(command("--seeds", "2")) == 0
    assert seeds == [(1,)] * 4
    assert "2 prompts × 2 seeds at each size" in capsys.readouterr().out
