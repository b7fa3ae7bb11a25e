"""The fidelity run: methods see as many keys as they say, figures are what they are called, nothing stays behind."""

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
from benchmarks.fidelity import phases, plot, report, results, run, study
from benchmarks.fidelity.attention import effective_share
from benchmarks.fidelity.methods import METHODS, ONE_KEY, PAPER, PUBLISHED, counterpart
from benchmarks.fidelity.phases import OFFSETS, ORDERS
from benchmarks.fidelity.scores import PROBED, Score, score
from benchmarks.method import DENSE
from benchmarks.tiny import model
from benchmarks.tiny.sampler import SAMPLERS, Request, Sampling, decode, sample
from todo import SettingsError, downsample
from todo.unet import find_self_attention

REQUEST = Request("a cat", (0, 1), (64, 64), Sampling(5))


@pytest.fixture(scope="module")
def trained():
    return model.load()


@pytest.fixture(scope="module")
def scores(trained):
    return score(trained, REQUEST, list(PUBLISHED))


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].factor and "taper" not in name])
def test_equal_kept_tokens(trained, name):
    """Each query of the finest level attends to 1 / f² of the tokens, whatever the method."""
    method = METHODS[name]
    seen = []
    handles = [
        block.attention.to_k.register_forward_hook(lambda module, args, output: seen.append(output.shape[1]))
        for block in find_self_attention(trained.unet)
        if block.resolution == 1
    ]
    order = Request("a cat", (0,), (128, 128), Sampling(10))
    with method.put_on(trained.unet, (32, 32)) as patch:
        if patch:
            patch.at(5, 10)  # within every window
        latent = torch.randn(1, *model.latent_shape(order.size), generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            trained(latent, torch.tensor([500]), trained.context(["a cat"], order.size))
    for handle in handles:
        handle.remove()
    assert set(seen) == {math.ceil(32 / method.factor) ** 2}


def test_dense_is_its_own_measure(scores):
    for each in scores:
        if each.method == DENSE:
            assert (each.mse, each.errors) == (0, (0,) * len(PROBED))
            assert each.psnr == pytest.approx(100)
            assert (each.ssim, each.detail) == (pytest.approx(1), pytest.approx(1))


def test_scores_are_the_difference_of_the_images(trained, scores):
    method = METHODS[f"{PAPER}, f=2"]
    dense = sample(trained, REQUEST)
    with method.put_on(trained.unet, (16, 16)) as patch:
        own = sample(trained, REQUEST, patch)
    found = [each for each in scores if each.method == method.name]
    assert [(each.prompt, each.seed, each.size) for each in found] == [
        ("a cat", 0, (64, 64)),
        ("a cat", 1, (64, 64)),
    ]
    for index, each in enumerate(found):
        assert each.mse == pytest.approx(float((dense[index] - own[index]).square().mean()), rel=1e-4)
        pair = decode(trained, own)[index], decode(trained, dense)[index]
        assert each.psnr == pytest.approx(similarity.psnr(*pair), rel=1e-3)
        assert len(each.errors) == len(PROBED)
        assert all(0 < error < 1 for error in each.errors)
        assert each.seconds > 0


def test_every_method_changes_the_image_and_leaves_nothing(trained, scores):
    before = sample(trained, REQUEST)
    score(trained, REQUEST, list(PUBLISHED))
    assert torch.equal(sample(trained, REQUEST), before)
    for each in scores:
        assert (each.mse > 0) == (each.method != DENSE), each.method


def test_attention_is_needed(scores):
    """With a single key the image is farther off than with a quarter of them."""
    mean = {name: np.mean([each.mse for each in scores if each.method == name]) for name in PUBLISHED}
    assert mean[ONE_KEY] > 2 * mean[f"{PAPER}, f=2"]


def test_all_keys_count_where_they_are_alike(trained):
    """And only some do in the trained model."""
    blind = model.load()
    for block in find_self_attention(blind.unet):
        torch.nn.init.zeros_(block.attention.to_q.weight)
    order = Request("a cat", (0,), (64, 64), Sampling(2))
    assert effective_share(blind, order) == [pytest.approx(1, abs=1e-4)]
    assert 0 < effective_share(trained, order)[0] < 0.99


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("cell", [1, 2, 3, 4, 5, 8])
def test_an_order_is_all_positions_of_a_cell_from_the_papers_on(order, cell):
    positions = order(cell)
    assert positions[0] == (0, 0)
    assert sorted(positions) == [(row, column) for row in range(cell) for column in range(cell)]


@pytest.mark.parametrize("offsets", OFFSETS.values(), ids=OFFSETS)
@pytest.mark.parametrize("cell", [2, 3, 4])
def test_offsets_show_each_position_of_each_cell_once(offsets, cell):
    rows, columns = 2 * cell + 1, cell + 1
    seen = [set() for _ in range(rows * columns)]
    for phase in range(cell**2):
        down, across = (plane.expand(rows, columns) % cell for plane in offsets(cell, phase, rows, columns))
        for index, position in enumerate(zip(down.flatten().tolist(), across.flatten().tolist(), strict=True)):
            seen[index].add(position)
    assert all(len(each) == cell**2 for each in seen)


@pytest.mark.parametrize("phase", [0, 1, 5])
def test_offsets(phase):
    """Aligned cells are all alike, staggered ones within a row; dithered ones repeat every `cell` cells."""
    order = downsample.phase_order(3)
    down, across = phases.aligned(3, phase, 4, 5)
    assert set(zip(down.flatten().tolist(), across.flatten().tolist(), strict=True)) == {order[phase]}
    down, across = phases.staggered(3, phase, 4, 5)
    assert down.unique().tolist() == [order[phase][0]]
    assert across.tolist() == [[order[phase][1] + row] * 5 for row in range(4)]
    down, across = phases.dithered(3, phase, 4, 5)
    assert (int(down[0, 0]), int(across[0, 0])) == order[phase]
    assert torch.equal(across[3], across[0])
    assert torch.equal(down[:, :2], down[:, 3:])
    assert len(set(zip(down[:3, :3].flatten().tolist(), across[:3, :3].flatten().tolist(), strict=True))) == 9


def test_blocks_may_be_a_phase_apart(trained):
    with METHODS["ToDo, finest level, phases by block too, f=2"].put_on(trained.unet, (16, 16)) as patch:
        for step in (0, 3):
            patch.at(step, 20)
            steps = [block.moment().step for block in patch._blocks]
            assert steps == [step + index for index in range(len(steps))]


@pytest.mark.parametrize("name", [name for name in METHODS if "phases" in name])
def test_another_pattern_makes_another_image_and_the_same_again(trained, name):
    found = []
    for each in (f"ToDo, finest level, f={METHODS[name].factor:g}", name, name):
        with METHODS[each].put_on(trained.unet, (16, 16)) as patch:
            found.append(sample(trained, REQUEST, patch))
    assert not torch.equal(found[0], found[1])
    assert torch.equal(found[1], found[2])


def test_sharper_attention_counts_fewer_keys_and_leaves_nothing(trained):
    before = sample(trained, REQUEST)
    shares = [
        effective_share(trained, Request("a cat", (0,), (64, 64), Sampling(2, sharpness=sharpness)))[0]
        for sharpness in (1, 4, 16)
    ]
    assert shares[0] > 1.5 * shares[1] > 1.5**2 * shares[2]
    assert torch.equal(sample(trained, REQUEST), before)
    sharper = sample(trained, Request("a cat", (0, 1), (64, 64), Sampling(5, sharpness=2)))
    assert not torch.equal(sharper, before)


def test_the_study_varies_what_it_says():
    tasks = study.tasks()
    assert len({(task.sampling, tuple(task.sizes)) for task in tasks}) == len(tasks)
    assert all(set(task.methods) <= set(METHODS) and task.methods[0] == DENSE for task in tasks)
    samplings = [task.sampling for task in tasks]
    assert {each.steps for each in samplings if each.sampler == "euler"} == {4, 8, 12, 20, 30, 50}
    assert {each.sampler for each in samplings} == set(SAMPLERS)
    assert {each.guidance for each in samplings} == {1, 4}
    assert {each.sharpness for each in samplings} == {1, 4, 16}
    assert any(side % 32 for task in tasks for size in task.sizes for side in size)


def test_the_study_writes_its_tables(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(study, "_USUAL", Sampling(2))
    monkeypatch.setattr(study, "_FEW_STEPS", Sampling(1))
    monkeypatch.setattr(study, "_SAMPLINGS", (Sampling(1), Sampling(2), Sampling(2, "heun")))
    monkeypatch.setattr(study, "_SIZE", (64, 64))
    monkeypatch.setattr(study, "_ODD_SIZE", (80, 48))
    monkeypatch.setattr(study, "PROMPTS", ("a cat",))
    assert main(["study", "--workers", "2", "--output", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    found = results.read(tmp_path / "study.json")
    assert [(result.sampling, result.sizes) for result in found] == [
        (Sampling(1), [(64, 64)]),
        (Sampling(2), [(64, 64)]),
        (Sampling(2, "heun"), [(64, 64)]),
        (Sampling(2), [(80, 48)]),
    ]

    tables = [study.sampling_table(found), study.factor_table(found), study.variant_table(found)]
    assert all(row[0] in said for _, rows in tables for row in rows)
    samplings, factors, variants = ([row[0] for row in rows] for _, rows in tables)
    assert samplings == ["euler, 1 steps", "euler, 2 steps", "heun, 2 steps", "euler, 2 steps, 48×80"]
    assert factors == [f"ToDo, finest level, f={factor}" for factor in (1.5, 2, 3, 4, 8)]
    assert tables[1][0] == ["", "euler, 2 steps", "euler, 2 steps, 48×80"]
    assert tables[2][0] == ["", "euler, 1 steps", "euler, 2 steps"]
    own, other = (found[0].of(name) for name in ("ToDo, finest level, f=4", "ToDo, finest level, phases raster, f=4"))
    ratio = sum(each.mse for each in other) / sum(each.mse for each in own)
    raster = tables[2][1][variants.index("ToDo, finest level, phases raster, f=4")]
    assert raster[1].startswith(f"{ratio:.2f} (")


@pytest.fixture(scope="module")
def result(trained, scores):
    return results.Result(describe(trained.unet), Sampling(5), tuple(scores), {(64, 64): 0.5})


def test_results_come_back_from_their_file(result, tmp_path):
    results.write([result], tmp_path / "r.json")
    (again,) = results.read(tmp_path / "r.json")
    assert (again.environment, again.methods, again.effective_keys) == (
        result.environment,
        result.methods,
        result.effective_keys,
    )
    for name in result.methods:
        for new, old in zip(again.of(name), result.of(name), strict=True):
            assert (new.prompt, new.seed, new.size) == (old.prompt, old.seed, old.size)
            assert (new.mse, new.psnr, *new.errors) == pytest.approx((old.mse, old.psnr, *old.errors), rel=1e-3)


def test_single_calls_may_be_compared_in_some_images_only(result, tmp_path):
    some = tuple(replace(each, errors=each.errors if each.seed == 0 else ()) for each in result.scores)
    results.write([replace(result, scores=some)], tmp_path / "r.json")
    (again,) = results.read(tmp_path / "r.json")
    name = f"{PAPER}, f=2"
    assert [each.errors == () for each in again.of(name)] == [False, True]
    row = next(row for row in report.error_table(again)[1] if row[0] == name)
    assert [float(cell.split()[0]) for cell in row[1:]] == pytest.approx(result.of(name)[0].errors, abs=1e-4)


def synthetic(result, errors: dict[str, list[float]]):
    """A result of images with given squared errors."""
    made = [
        Score(name, "a cat", seed, (64, 64), error, 30.0 + seed, 0.9, 1.0, (0.1,) * len(PROBED), 1.0)
        for name, each in errors.items()
        for seed, error in enumerate(each)
    ]
    return results.Result(result.environment, Sampling(5), tuple(made), {(64, 64): 0.5})


def test_intervals_hold_the_mean_and_shrink_with_more_images(result):
    random = np.random.default_rng(1)
    widths = []
    for count in (8, 200):
        errors = random.exponential(size=count).tolist()
        interval = synthetic(result, {"x": errors}).mean(lambda each: each.mse, "x")
        assert interval.value == pytest.approx(np.mean(errors))
        assert interval.low < interval.value < interval.high
        widths.append(interval.high - interval.low)
    assert widths[1] < widths[0]


def test_a_ratio_is_taken_in_pairs(result):
    """Where every image's error is a fifth, the ratio is a fifth without any doubt."""
    errors = np.random.default_rng(2).exponential(size=50)
    made = synthetic(result, {"own": (errors / 5).tolist(), "other": errors.tolist()})
    ratio = made.ratio("own", "other")
    assert (ratio.value, ratio.low, ratio.high) == (pytest.approx(0.2),) * 3


def test_tables_name_every_method(result):
    _, rows = report.table(result, (64, 64))
    assert [row[0] for row in rows] == [name for name in PUBLISHED if name != DENSE]
    assert counterpart(METHODS["ToDo, f=4"]) == f"{PAPER}, f=4"
    paper = next(row for row in rows if row[0] == f"{PAPER}, f=2")
    assert paper[-1] == ""


def test_a_plot_has_a_panel_for_each_size(result):
    figure = plot.draw(result)
    assert len(figure.axes) == 1
    assert figure.axes[0].get_title().startswith("64×64")


def test_an_unknown_prompt_is_refused(capsys, tmp_path):
    with pytest.raises(SystemExit):
        main(["fidelity", "--prompt", "a dog", "--size", "64", "--seeds", "1", "--output", str(tmp_path)])
    assert "prompt: 'dog' is not a word that the tiny model knows" in capsys.readouterr().err


def test_an_unknown_method_is_refused():
    with pytest.raises(SettingsError, match=r"^compare: 'ToMe' is not allowed; it must be one of dense, ToDo, f=2"):
        run.methods(["ToMe"])


def test_seeds_that_are_not_everywhere_are_left_out(scores):
    task = run.Task([(64, 64)], ["a cat"], 2, list(PUBLISHED), Sampling(5))
    cut = [each for each in scores if each.seed == 0 or each.method != ONE_KEY]
    assert {each.seed for each in run.complete(task, cut)} == {0}


def test_the_command_writes_its_files(tmp_path, capsys):
    arguments = ["--size", "64", "64x128", "--prompt", "a cat", "a rocket", "--seeds", "2", "--steps", "3",
                 "--compare", "ToDo, f=2", f"{PAPER}, f=2", "--workers", "2", "--output", str(tmp_path)]  # fmt: skip
    assert main(["fidelity", *arguments]) == 0
    said = capsys.readouterr().out
    assert "2 prompts × 2 seeds at each size · euler, 3 steps" in said
    assert "\nToDo, f=2 " in said
    (values,) = json.loads((tmp_path / "fidelity.json").read_text(encoding="utf8"))
    assert [size["size"] for size in values["sizes"]] == [[64, 64], [128, 64]]
    assert (tmp_path / "fidelity.png").read_bytes().startswith(b"\x89PNG")
