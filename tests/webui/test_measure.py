"""Measure on this machine: what is timed, what is shown, and that the host is left as it was."""

from __future__ import annotations

import json
import random
import re
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.standin import models
from tests.unit.small_models import hook_counts

from .generations import at_each_step

SIZE = {"width": 128, "height": 96}
MANUAL = {"mode": "manual", "factor": 2.0}


@pytest.fixture(autouse=True)
def quick(host, monkeypatch):
    """Makes measurements short, because the results need not be precise here."""
    for limit in ("SECONDS", "LONGEST"):
        monkeypatch.setattr(host.ours("webui.measure.rounds"), limit, 1e-9)


@pytest.fixture
def calls(host):
    """The UNet calls: shape of the latent, and number of keys in the first block of the finest level."""
    seen = []
    attention = host.unet.get_submodule("input_blocks.1.1").transformer_blocks[0].attn1
    handles = [
        host.unet.register_forward_hook(lambda _, args, output: seen[-1].insert(0, tuple(args[0].shape))),
        attention.to_k.register_forward_hook(lambda _, args, output: seen.append([output.shape[1]])),
    ]
    yield seen
    for handle in handles:
        handle.remove()


def values(host, **changed):
    """The values of the page's controls, with some changed."""
    names = host.names
    defaults = [getattr(control, "value", None) for control in host.script().controls]
    return [changed.get(name, default) for name, default in zip(names, defaults, strict=True)]


def measure(host, *passes, batch=1, progress=lambda done, desc: None, token="", **changed):
    sizes = json.dumps({"batch": batch, "passes": passes or [SIZE]})
    return host.ours("webui.measure.action").measure(sizes, values(host, **changed), progress, token)


def text(page):
    """The text of some HTML, line by line."""
    without_phrases = re.sub(r"<span data-todo-phrase[^>]*>([^<]*)</span>", r"\1", page)
    return [part for part in re.split(r"<[^>]*>", without_phrases) if part]


def test_dense_and_each_ratio_are_timed_on_the_hosts_own_call(host, calls):
    page = measure(host, **MANUAL)
    # Prompt and negative prompt share one call. The last call continues the host's step, with the fastest settings.
    (_cold, *timed), rest = calls[:6], calls[6:]
    assert {shape for shape, _ in calls} == {(2, 4, 12, 16)}
    assert [kept for _, kept in timed] == [192, 88, 48, 24, 12]
    assert len(rest) == 1
    (line, *plot) = text(page)
    measured = r"(\d+\.\d\d× (faster|slower)|\d+\.\d–\d+\.\d× as fast)"
    unsteady = re.escape("unsteady: is other work running on this machine?")
    figures = rf"{measured}( · ({unsteady}|rough: [^·]*))? · by arithmetic 1\.\d\d×"
    assert re.fullmatch(rf"128×96: dense \d+ ms · ToDo \d+ ms per step · {figures}", line)
    assert plot[::2] == ["dense", "ratio 1.5", "ratio 2", "ratio 3", "ratio 4"]
    assert re.fullmatch(r"\d+ ms", plot[1])
    assert all(re.fullmatch(rf"\d+ ms · {measured}", figure) for figure in plot[3::2])


@pytest.fixture
def timed(host, monkeypatch):
    """The seconds of each round after the warm-up, for dense and each of the ratios, in place of measured ones."""
    rounds = host.ours("webui.measure.rounds")
    original = rounds.measure
    seconds = []

    def measure(*given):
        results = original(*given)
        for each, times in zip(results, seconds, strict=True):
            each.rounds = dict(enumerate([9.0, *times]))
        return results

    monkeypatch.setattr(rounds, "measure", measure)
    return seconds


def widths(page):
    return [float(width) for width in re.findall(r"width: ([\d.]+)%", page)]


def test_times_ratios_and_bars_agree(host, timed):
    """Even where the machine became slower from round to round."""
    timed += [[1.0, 1.5, 2.0], [0.9, 1.35, 1.8], [0.5, 0.75, 1.0], [0.4, 0.6, 0.8], [0.3, 0.45, 0.6]]
    page = measure(host, **MANUAL)
    line, *plot = text(page)
    assert line.startswith("128×96: dense 1500 ms · ToDo 750 ms per step · 2.00× faster · by arithmetic ")
    assert plot[1::2] == [
        "1500 ms",
        "1350 ms · 1.11× faster",
        "750 ms · 2.00× faster",
        "600 ms · 2.50× faster",
        "450 ms · 3.33× faster",
    ]
    assert widths(page) == [100, 90, 50, 40, 30]


def test_where_rounds_scatter_there_is_a_range_that_is_not_remembered(host, timed):
    recall, size = host.ours("webui.measure.remembered").recall, host.ours("webui.passes").Pass(128, 96, 2, False)
    settings = host.Settings
    timed += [[1.0, 1.0, 1.0, 1.0], [0.9, 0.9, 0.9, 0.9], [0.9, 0.7, 0.8, 0.6], *[[0.5, 0.5, 0.5, 0.5]] * 2]
    line, *plot = text(measure(host, batch=2, **MANUAL))
    assert "per step · 1.22–1.49× as fast · unsteady: is other work running on this machine? · by arithmetic" in line
    assert plot[5].endswith(" ms · 1.22–1.49× as fast")
    assert recall(size, settings(factor=2)) is None
    assert recall(size, settings(factor=3)) == 2


def test_a_single_round_is_not_remembered(host, timed):
    """A slow machine has no time for more, and it may have been busy with something else."""
    recall, size = host.ours("webui.measure.remembered").recall, host.ours("webui.passes").Pass(128, 96, 3, False)
    timed += [[20.0], [4.0], [3.5], [2.5], [2.0]]
    line, *_ = text(measure(host, batch=3, **MANUAL))
    assert "5.71× faster · rough: only 1 of 3 rounds in 60 seconds · by arithmetic" in line
    assert recall(size, host.Settings(factor=2)) is None


def test_a_line_has_one_unit(host, timed):
    timed += [[14.0] * 3, [13.0] * 3, [7.0] * 3, [6.0] * 3, [0.5] * 3]
    line, *plot = text(measure(host, **MANUAL))
    assert line.startswith("128×96: dense 14.0 s · ToDo 7.0 s per step · 2.00× faster · by arithmetic")
    assert plot[-1] == "0.5 s · 28.00× faster"


def test_a_step_of_two_calls_takes_twice_as_long(host, timed, monkeypatch):
    timed += [[1.0] * 3, [0.8] * 3, [0.5] * 3, [0.4] * 3, [0.25] * 3]
    monkeypatch.setattr(host.shared.opts, "batch_cond_uncond", False)
    line, *plot = text(measure(host, batch=2, **MANUAL))
    assert line.startswith("128×96, batch of 2: dense 2000 ms · ToDo 1000 ms per step · 2.00× faster")
    assert plot[-1] == "500 ms · 4.00× faster"


@pytest.mark.parametrize("mode", ["auto", "manual"])
def test_the_hires_pass_has_its_own_results(host, calls, mode):
    page = measure(host, SIZE, {"width": 256, "height": 192}, mode=mode, grid=16, factor=2.0, hires_factor=3.0)
    lines = [part for part in text(page) if "per step" in part]
    # At the smaller size, no number of keys/values per side acts.
    small = {"manual": ["128×96"], "auto": []}[mode]
    assert [line.split(":")[0] for line in lines] == [*small, "256×192, hires pass"]
    if mode == "manual":
        assert text(page)[-8::2] == ["ratio 2.25", "ratio 3", "ratio 4.5", "ratio 6"]
    else:
        assert text(page)[-4::2] == ["dense", "16 per side"]  # 24 have no effect at this size
    assert {shape[2:] for shape, _ in calls} == {(24, 32), *[(12, 16)] * len(small)}


def test_the_step_window_is_ignored(host, calls):
    measure(host, **MANUAL, start=0.5, end=0.7, taper=True)
    assert [kept for _, kept in calls[1:6]] == [192, 88, 48, 24, 12]


def test_where_no_setting_acts_it_says_so_at_once(host, calls):
    said = []
    page = measure(host, progress=lambda *_, desc: said.append(desc), mode="auto")
    assert text(page) == ["128×96: no effect at this size (it acts from about 480×480 on)"]
    assert calls == said == []


def test_a_pass_where_no_setting_acts_is_left_out(host, calls):
    page = text(measure(host, SIZE, {"width": 256, "height": 192}, mode="manual", factor=2.0, passes="hires"))
    assert page[0] == "128×96: no effect in this pass"
    assert page[1].startswith("256×192, hires pass: dense ")
    assert {shape[2:] for shape, _ in calls} == {(24, 32)}
    page = text(measure(host, SIZE, {"width": 256, "height": 192}, mode="manual", factor=2.0, passes="first"))
    assert page[0].startswith("128×96: dense ")
    assert page[-1] == "256×192, hires pass: no effect in this pass"


def test_a_measurement_is_remembered_for_the_live_line(host, timed):
    timed += [[1.0] * 3, [0.8] * 3, [0.5] * 3, [0.4] * 3, [0.25] * 3]
    measure(host, **MANUAL, end=0.5)
    settings = host.Settings
    size = host.ours("webui.passes").Pass(128, 96, 1, False)
    recall = host.ours("webui.measure.remembered").recall
    assert recall(size, settings(factor=2, taper=True)) > 0
    assert recall(size, settings(factor=3)) > 0
    assert recall(size, settings(factor=2.25)) is None


def test_it_can_be_stopped_before_it_begins(host, calls):
    action = host.ours("webui.measure.action")
    mine, of_another_page = action.announce(), action.announce()
    action.stop(mine)
    action.stop("one that has ended")
    assert text(measure(host, **MANUAL, token=mine)) == ["Measurement stopped"]
    assert len(calls) <= 1
    assert "per step" in measure(host, **MANUAL, token=of_another_page)


def test_a_model_without_such_attention(host):
    host.add_checkpoint("sd3", models.shared(lambda unet: models.LoadedModel(unet, "sd3"), models.FusedUNet()))
    host.use_checkpoint("sd3")
    assert text(measure(host))[0] == "no effect on LoadedModel (ToDo is for SD1/SD2/SDXL)"


def test_ratios_below_one_are_left_out(host):
    page = measure(host, SIZE, SIZE, **MANUAL, hires_factor=0.5)
    assert text(page)[-1] == "128×96, hires pass: no effect at a ratio that keeps every token"


def test_a_compiled_model_is_not_measured(host, calls, monkeypatch):
    import torch._dynamo  # noqa: F401  # as torch.compile does

    compiled = host.unet.input_blocks[1]
    monkeypatch.setattr(compiled, "_compiled_call_impl", compiled._call_impl)  # as torch.compile marks it
    assert text(measure(host, **MANUAL))[0].startswith("Not measured: this model is under torch.compile")
    assert len(calls) <= 1


def test_every_step_has_the_negative_prompt(host, monkeypatch):
    options = {"skip_early_cond": 0.3}
    monkeypatch.setattr(host.shared.opts, "data", options, raising=False)
    seen = []
    at_each_step(host, lambda _: seen.append(dict(options)))
    measure(host, **MANUAL)
    assert seen[0]["skip_early_cond"] < 0
    assert options == {"skip_early_cond": 0.3}
    options.clear()
    measure(host, **MANUAL)
    assert options == {}


def test_a_model_without_a_plan_is_measured_without_a_prediction(host):
    host.add_checkpoint("other", models.shared(lambda unet: models.LoadedModel(unet, "other"), host.unet))
    host.use_checkpoint("other")
    (line, *_) = text(measure(host, **MANUAL))
    assert "×" in line.partition(": ")[2]
    assert "expected" not in line


@pytest.mark.parametrize(
    ("size", "word"), [({"width": 0, "height": 96}, "Width"), ({"width": 128, "height": 10**6}, "Height")]
)
def test_an_invalid_image_size(host, calls, size, word):
    assert text(measure(host, size))[0].startswith(f"{word}: ")
    assert calls == []


def test_an_invalid_value(host, calls):
    assert "Downsample ratio (per side): 99 is not allowed" in measure(host, mode="manual", factor=99)
    assert calls == []


def out_of_memory_at(host, monkeypatch, *kept):
    """Makes calls with these numbers of keys run out of memory."""
    attention = host.unet.get_submodule("input_blocks.1.1").transformer_blocks[0].attn1

    def fail(_, args, output):
        if output.shape[1] in kept:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    return attention.to_k.register_forward_hook(fail)


def test_dense_need_not_fit(host, monkeypatch):
    handle = out_of_memory_at(host, monkeypatch, 192)
    (line, *plot) = text(measure(host, **MANUAL))
    handle.remove()
    assert re.fullmatch(r"128×96: dense does not fit in memory · ToDo \d+ ms per step", line)
    assert plot[1] == "does not fit in memory"
    assert all(figure.endswith(" ms") for figure in plot[3::2])


def test_the_hosts_step_continues_with_the_settings_of_the_pass(host, monkeypatch):
    """ToDo is only on in the hires pass, and dense does not fit there."""
    handle = out_of_memory_at(host, monkeypatch, 24 * 32)
    page = measure(host, SIZE, {"width": 256, "height": 192}, **MANUAL, passes="hires")
    handle.remove()
    lines = [part for part in text(page) if ":" in part]
    assert lines[0] == "128×96: no effect in this pass"
    assert re.fullmatch(r"256×192, hires pass: dense does not fit in memory · ToDo \d+ ms per step", lines[1])


def test_nothing_fits(host, monkeypatch):
    handle = out_of_memory_at(host, monkeypatch, 192, 48, 24, 12)
    (line, *_) = text(measure(host, **MANUAL))
    handle.remove()
    assert line == "128×96: dense does not fit in memory · ToDo does not fit in memory"


def test_memory_is_shown_if_the_device_tracks_it(host, monkeypatch):
    rounds = host.ours("webui.measure.rounds")
    original = rounds.measure

    def with_peaks(*given):
        timed = original(*given)
        for index, each in enumerate(timed):
            each.peak = (10 - index) * 2**30
        return timed

    monkeypatch.setattr(rounds, "measure", with_peaks)
    assert text(measure(host, **MANUAL))[0].endswith("memory 10.0 → 8.0 GB")


def state(host):
    """The state that a measurement must not change."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state()[1].tolist(),
        "torch": torch.get_rng_state().tolist(),
        "prompt": Path(host.paths.data_path, "params.txt").read_text(encoding="utf8"),
        "weights": [parameter.sum().item() for parameter in host.unet.parameters()],
        "hooks": hook_counts(host.unet),
        "options": dict(vars(host.shared.opts)),
        "job": host.shared.state.job,
    }


@pytest.mark.parametrize("ending", ["done", "stopped", "failed"])
def test_the_host_is_left_as_it_was(host, ending, monkeypatch):
    expected = host.generate({"factor": 2}).latents
    host.shared.state.end()
    before = state(host)

    token = host.ours("webui.measure.action").announce()

    def progress(done, desc):
        if ending == "stopped" and desc != "waiting in the queue":
            host.ours("webui.measure.action").stop(token)
        if ending == "failed" and desc != "waiting in the queue":
            raise OSError("no more")

    page = measure(host, **MANUAL, progress=progress, token=token)
    assert ("per step" in page) is (ending == "done")
    assert state(host) == before
    assert torch.equal(host.generate({"factor": 2}).latents, expected)


def test_it_does_not_count_as_the_last_prompt(host):
    history = Path(host.paths.data_path, "params.txt")
    history.unlink(missing_ok=True)
    measure(host, **MANUAL)
    assert not history.exists()


def test_nothing_is_saved_and_no_script_is_called(host, monkeypatch):
    host.images.saved.clear()
    called = []
    monkeypatch.setattr(host.scripts.scripts_txt2img, "process", lambda p: called.append(p))
    measure(host, **MANUAL)
    assert host.images.saved == called == []


def test_a_failure_is_shown_and_logged(host, monkeypatch):
    monkeypatch.setattr(host.processing, "process_images", lambda p: 1 / 0)
    assert text(measure(host, **MANUAL)) == ["Measuring failed: ZeroDivisionError: division by zero"]
    assert host.log.at("ERROR") == ["Measuring failed"]


def test_it_is_logged(host):
    measure(host, **MANUAL)
    assert host.log.at("INFO")[-1].startswith("128×96: dense ")


def test_the_hosts_own_interrupt_stops_it(host, calls):
    def progress(done, desc):
        if desc != "waiting in the queue":
            host.shared.state.interrupt()

    assert text(measure(host, **MANUAL, progress=progress)) == ["Measurement stopped"]
    assert len(calls) <= 1


def test_it_waits_for_a_running_generation(host, calls):
    """During the steps of a generation, the measurement makes no calls."""
    reached, go_on, done = threading.Event(), threading.Event(), []

    def hold(_):
        if threading.current_thread() is generating:
            reached.set()
            go_on.wait(20)

    at_each_step(host, hold)
    queued = host.call_queue.wrap_queued_call(lambda: host.generate(width=64, height=64))
    generating = threading.Thread(target=lambda: done.append(queued()))
    generating.start()
    assert reached.wait(20)
    waiting = threading.Event()
    pages = []
    waits = {"progress": lambda *_, **__: waiting.set()}
    measuring = threading.Thread(target=lambda: pages.append(measure(host, **waits, **MANUAL)))
    measuring.start()
    assert waiting.wait(20)
    assert not any(shape == (2, 4, 12, 16) for shape, _ in calls)
    go_on.set()
    generating.join(20)
    measuring.join(20)
    sizes = [shape[2:] for shape, _ in calls]
    assert sizes == [(8, 8)] * 4 + [(12, 16)] * (len(sizes) - 4)
    assert len(sizes) > 4
    assert "per step" in pages[0]


def test_a_waiting_measurement_can_be_stopped(host, calls):
    with host.call_queue.queue_lock:
        waiting, pages, token = threading.Event(), [], host.ours("webui.measure.action").announce()
        waits = {"progress": lambda *_, **__: waiting.set(), "token": token}
        thread = threading.Thread(target=lambda: pages.append(measure(host, **waits, **MANUAL)))
        thread.start()
        assert waiting.wait(20)
        host.ours("webui.measure.action").stop(token)
    thread.join(20)
    assert text(pages[0]) == ["Measurement stopped"]
    assert calls == []


def test_other_generations_are_not_measured(host, calls):
    host.generate({"factor": 2}, steps=2)
    assert [kept for _, kept in calls] == [64, 64]
