"""The fidelity run: methods keep as many keys as their factors say, scores are correct, and UNets are restored."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks import similarity
from benchmarks.commands import main
from benchmarks.environment import describe
from benchmarks.fidelity import plot, report, results, run
from benchmarks.fidelity.attention import effective_share, stride
from benchmarks.fidelity.methods import GRIDS, METHODS, ONE_KEY, PAPER, PUBLISHED, of_trained
from benchmarks.fidelity.scores import PROBED, Score, score
from benchmarks.hooks import attached
from benchmarks.method import DENSE
from benchmarks.peers import finest
from benchmarks.sampling import Request, Sampling
from benchmarks.speed.methods import per_side
from benchmarks.tiny import model
from benchmarks.tiny.sampler import TinyImageModel, decode, sample
from todo import SettingsError
from todo.downsample import kept_tokens
from todo.schedule import Moment, factor_at
from todo.unet import find_self_attention

REQUEST = Request("a cat", (0, 1), (64, 64), Sampling(5))

UNCHANGED = {DENSE, *map(of_trained, GRIDS)}
"""Methods without effect at this size, which is smaller than the trained one."""


@pytest.fixture(scope="module")
def image_model(tiny_model):
    return TinyImageModel(tiny_model)


@pytest.fixture(scope="module")
def scores(image_model):
    """Of the published methods and of one key, without perceptual distances."""
    made = score(image_model, REQUEST, [*PUBLISHED, ONE_KEY], perceptual=False)
    return [each for scored in made for each in scored.scores]


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].factor and "taper" not in name])
def test_every_method_keeps_one_of_f_squared_tokens(tiny_model, name):
    """At the finest level, whose 24×24 tokens all factors divide."""
    method, size = METHODS[name], (96, 96)
    key_counts = set()

    def count_keys(module, args, output):
        key_counts.add(output.shape[1])

    latent = torch.randn(1, *model.latent_shape(size))
    hooks = (block.attention.to_k.register_forward_hook(count_keys) for block in finest(tiny_model.unet))
    with method.apply(tiny_model.unet, (24, 24)) as patch, attached(hooks), torch.no_grad():
        if patch:
            patch.at(5, 10)  # within every step window
        tiny_model(latent, torch.tensor([500]), tiny_model.context(["a cat"], size))
    assert key_counts == {(24 / method.factor) ** 2}


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
            assert (each.mse, each.errors) == (0, (0,) * len(PROBED))
            assert each.psnr == pytest.approx(100)
            assert (each.ssim, each.detail) == (pytest.approx(1), pytest.approx(1))


def test_scores_compare_with_the_dense_images(tiny_model, scores):
    method = METHODS[f"{PAPER}, f=2"]
    dense = sample(tiny_model, REQUEST)
    with method.apply(tiny_model.unet, (16, 16)) as patch:
        downsampled = sample(tiny_model, REQUEST, patch)
    selected = [each for each in scores if each.method == method.name]
    assert [(each.prompt, each.seed, each.size) for each in selected] == [
        ("a cat", 0, (64, 64)),
        ("a cat", 1, (64, 64)),
    ]
    for index, each in enumerate(selected):
        assert each.mse == pytest.approx(float((dense[index] - downsampled[index]).square().mean()), rel=1e-4)
        pair = decode(tiny_model, downsampled)[index], decode(tiny_model, dense)[index]
        assert each.psnr == pytest.approx(similarity.psnr(*pair), rel=1e-3)
        assert len(each.errors) == len(PROBED)
        assert all(0 < error < 1 for error in each.errors)
        assert each.seconds > 0


def test_every_method_changes_the_image_and_restores_the_model(tiny_model, scores):
    before = sample(tiny_model, REQUEST)
    list(score(TinyImageModel(tiny_model), REQUEST, list(PUBLISHED)))
    assert torch.equal(sample(tiny_model, REQUEST), before)
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
    names = [DENSE, f"{PAPER}, f=2", f"{PAPER}, f=4"]
    scored = list(score(Full(tiny_model), Request("a cat", (0,), (64, 64), Sampling(2)), names))
    assert [bool(each.images) for each in scored] == [False, False, True]
    scores = tuple(each.scores[0] for each in scored)
    results.write(
        [results.Result(describe(tiny_model.unet), Sampling(2), scores, {(64, 64): math.nan}, "full")],
        tmp_path / "r.json",
    )
    (read,) = results.read(tmp_path / "r.json")
    cells = {row[0]: row[1:3] for row in report.table(read, (64, 64))[1]}
    assert cells == {
        DENSE: ["does not fit in memory", ""],
        f"{PAPER}, f=2": ["does not fit in memory", ""],
        f"{PAPER}, f=4": ["dense does not fit in memory", ""],
    }
    assert "keys that count: not measured" in report.text(read)
    assert plot.draw(read).axes


def test_an_error_that_is_not_about_memory_is_raised(tiny_model):
    class Broken(TinyImageModel):
        def sample(self, request, patch=None):
            raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        list(score(Broken(tiny_model), REQUEST, [DENSE]))


@pytest.mark.parametrize(("figure", "head"), [("high_pass", "HPF"), ("lpips", "LPIPS"), ("flip", "FLIP")])
def test_a_figure_that_no_image_has_takes_no_column(result, tmp_path, figure, head):
    """Files of earlier versions lack some, and so does a machine without the package that measures it."""
    with_figure, without = (
        replace(result, scores=tuple(replace(each, **{figure: value}) for each in result.scores))
        for value in (0.25, math.nan)
    )
    for expected, measured in ((True, with_figure), (False, without)):
        results.write([measured], tmp_path / "r.json")
        (read,) = results.read(tmp_path / "r.json")
        assert (head in report.table(read, (64, 64))[0]) == expected
        assert (f'"{figure}"' in (tmp_path / "r.json").read_text(encoding="utf8")) == expected
        assert all(math.isnan(getattr(each, figure)) != expected for each in read.scores)


def test_only_about_a_thousand_queries_of_a_large_image_are_measured():
    assert [stride(tokens) for tokens in (256, 4096)] == [7, 7]
    assert 900 < 192 * 192 / stride(192 * 192) < 1100


def test_the_model_depends_on_attention(scores):
    """A single key gives a larger error than a quarter of the keys."""
    mean = {name: np.mean([each.mse for each in scores if each.method == name]) for name in (*PUBLISHED, ONE_KEY)}
    assert mean[ONE_KEY] > 2 * mean[f"{PAPER}, f=2"]


def test_the_effective_share_is_one_if_all_weights_are_equal(tiny_model):
    uniform = model.load()
    for block in find_self_attention(uniform.unet):
        torch.nn.init.zeros_(block.attention.to_q.weight)
    request = Request("a cat", (0,), (64, 64), Sampling(2))
    assert effective_share(TinyImageModel(uniform), request) == [pytest.approx(1, abs=1e-4)]
    assert 0 < effective_share(TinyImageModel(tiny_model), request)[0] < 0.99


def test_sharper_attention_has_a_smaller_effective_share(tiny_model):
    before = sample(tiny_model, REQUEST)
    shares = [
        effective_share(TinyImageModel(tiny_model), Request("a cat", (0,), (64, 64), Sampling(2, sharpness=sharpness)))[
            0
        ]
        for sharpness in (1, 4, 16)
    ]
    assert shares[0] > 1.5 * shares[1] > 1.5**2 * shares[2]
    assert torch.equal(sample(tiny_model, REQUEST), before)
    sharper = sample(tiny_model, Request("a cat", (0, 1), (64, 64), Sampling(5, sharpness=2)))
    assert not torch.equal(sharper, before)


@pytest.fixture(scope="module")
def result(tiny_model, scores):
    return results.Result(describe(tiny_model.unet), Sampling(5), tuple(scores), {(64, 64): 0.5})


def test_results_are_written_and_read_back(result, tmp_path):
    results.write([result], tmp_path / "r.json")
    (read,) = results.read(tmp_path / "r.json")
    assert (read.environment, read.methods, read.effective_keys) == (
        result.environment,
        result.methods,
        result.effective_keys,
    )
    for name in result.methods:
        for new, old in zip(read.of(name), result.of(name), strict=True):
            assert (new.prompt, new.seed, new.size) == (old.prompt, old.seed, old.size)
            assert (new.mse, new.psnr, *new.errors) == pytest.approx((old.mse, old.psnr, *old.errors), rel=1e-3)


def test_single_calls_may_be_compared_in_some_images_only(result, tmp_path):
    some = tuple(replace(each, errors=each.errors if each.seed == 0 else ()) for each in result.scores)
    results.write([replace(result, scores=some)], tmp_path / "r.json")
    (read,) = results.read(tmp_path / "r.json")
    name = f"{PAPER}, f=2"
    assert [each.errors == () for each in read.of(name)] == [False, True]
    row = next(row for row in report.error_table(read)[1] if row[0] == name)
    assert [float(cell.split()[0]) for cell in row[1:]] == pytest.approx(result.of(name)[0].errors, abs=1e-4)


def synthetic(result, errors: dict[str, list[float]]):
    """A result of images with given squared errors, by method."""
    scores = [
        Score(name, "a cat", seed, (64, 64), error, 30.0 + seed, 0.9, 1.0, (0.1,) * len(PROBED), 1.0)
        for name, by_seed in errors.items()
        for seed, error in enumerate(by_seed)
    ]
    return results.Result(result.environment, Sampling(5), tuple(scores), {(64, 64): 0.5})


def test_intervals_contain_the_mean_and_shrink_with_more_images(result):
    random = np.random.default_rng(1)
    widths = []
    for count in (8, 200):
        errors = random.exponential(size=count).tolist()
        interval = synthetic(result, {"x": errors}).mean(lambda each: each.mse, "x")
        assert interval.value == pytest.approx(np.mean(errors))
        assert interval.low < interval.value < interval.high
        widths.append(interval.high - interval.low)
    assert widths[1] < widths[0]


def test_ratios_are_resampled_in_pairs(result):
    """If every image's error is a fifth of the other method's, the interval has no width."""
    errors = np.random.default_rng(2).exponential(size=50)
    ratio = synthetic(result, {"a": (errors / 5).tolist(), "b": errors.tolist()}).ratio("a", "b")
    assert (ratio.value, ratio.low, ratio.high) == (pytest.approx(0.2),) * 3


def test_tables_name_every_method(result):
    head, rows = report.table(result, (64, 64))
    assert [row[0] for row in rows] == [*PUBLISHED, ONE_KEY]
    column = head.index("MSE / paper's f=2")
    cells = {row[0]: row[column] for row in rows}
    assert cells[f"{PAPER}, f=2"] == ""
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


def test_incomplete_seeds_are_left_out(scores):
    task = run.Task([(64, 64)], ["a cat"], 2, [*PUBLISHED, ONE_KEY], Sampling(5))
    incomplete = [each for each in scores if each.seed == 0 or each.method != ONE_KEY]
    assert {each.seed for each in run.complete(task, incomplete)} == {0}


def test_the_command_writes_its_files(tmp_path, capsys):
    arguments = ["--size", "64", "64x128", "--prompt", "a cat", "a rocket", "--seeds", "2", "--steps", "3",
                 "--compare", "ToDo, f=2", f"{PAPER}, f=2", "--workers", "2", "--output", str(tmp_path)]  # fmt: skip
    assert main(["fidelity", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "2 prompts × 2 seeds at each size · dpm++ 2m, 3 steps, guidance 5" in printed
    assert "\nToDo, f=2 " in printed
    (values,) = json.loads((tmp_path / "fidelity.json").read_text(encoding="utf8"))
    assert [size["size"] for size in values["sizes"]] == [[64, 64], [128, 64]]
    assert (tmp_path / "fidelity.png").read_bytes().startswith(b"\x89PNG")
