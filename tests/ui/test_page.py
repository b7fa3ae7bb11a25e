"""The accordion and its live line on a page of gradio 3.41, in a real browser."""

from __future__ import annotations

import json
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from .browser import missing

if missing():
    pytest.skip(missing(), allow_module_level=True)

ID = "script_txt2img_todo_{}".format
AUTO = ("grid",)
MANUAL = ("factor", "deep_factor", "hires_factor")
BOTH = ("mode", "max_downsample", "method", "phase", "start", "end", "taper", "passes", "controlnet")
FOLDED = ("method", "phase", "taper", "controlnet", "passes", "hires_factor")
DEFAULTS = [False, "auto", 48, 2, 1, "4", "nearest", "cycle", 0, 1, False, "both", 0, True, "off"]
AT_512 = "512×512: up to 1.2× faster · keeps 25 % of keys/values"
SLOW, SD3 = "slow.safetensors", "sd3.safetensors"
BUSY_SECONDS = 3.0  # after which the script asks again while a checkpoint is being loaded


def summary(address, width, height, family="sd1", **knobs):
    """The summary in the host's answer."""
    query = urlencode({"width": width, "height": height, "family": family, **knobs})
    with urlopen(f"{address}todo/v1/plan?{query}") as answer:
        return json.load(answer)["summary"]


# --- the accordion


def test_it_is_off_until_it_is_opened(tab):
    assert tab.accordion().is_visible()
    assert tab.accordion("img2img").count() == 1
    assert not tab.ticked()
    assert not tab.knob("mode").is_visible()
    assert tab.values() == DEFAULTS
    tab.open()
    assert tab.until(tab.ticked)
    assert tab.values() == [True, *DEFAULTS[1:]]
    tab.open()
    assert tab.until(lambda: not tab.ticked())
    assert tab.values() == DEFAULTS


def test_what_most_people_need_fits_on_one_screen(tab):
    tab.open()
    tab.live_is(bool)
    assert tab.accordion().bounding_box()["height"] <= 560
    for name in ("mode", "grid", "max_downsample", "start", "end", "live", "compare", "measure", "more"):
        assert tab.knob(name).first.is_visible()
    assert not any(tab.knob(name).is_visible() for name in FOLDED)


@pytest.mark.parametrize("width", [400, 1280, 1920])
@pytest.mark.parametrize("mode", ["auto", "manual"])
def test_no_help_text_is_longer_than_two_lines(tab, width, mode):
    tab.page.set_viewport_size({"width": width, "height": 1000})
    tab.open()
    tab.unfold()
    tab.select(ID("mode"), mode)
    tab.until(lambda: tab.knob({"auto": "grid", "manual": "factor"}[mode]).is_visible())
    tall = tab.accordion().evaluate(
        "root => [...root.querySelectorAll('[data-testid=block-info] ~ div, [data-testid=block-info] + div')]"
        ".filter((node) => node.clientHeight > 2.5 * parseFloat(getComputedStyle(node).lineHeight))"
        ".map((node) => node.textContent)"
    )
    assert tall == []


def test_a_checkboxs_help_stands_below_it(tab):
    tab.open()
    tab.unfold()
    box, text = tab.knob("taper").locator("input"), tab.knob("taper").get_by_text("Strongest in the first")
    assert box.bounding_box()["y"] < text.bounding_box()["y"]


def test_img2img_shows_nothing_of_hires_fix(tab):
    tab.find("#tabs button").filter(has_text="img2img").first.click()
    tab.open("img2img")
    tab.unfold("img2img")
    tab.select("script_img2img_todo_mode", "manual")
    assert tab.until(lambda: tab.knob("factor", "img2img").is_visible())
    assert not tab.knob("passes", "img2img").is_visible()
    assert not tab.knob("hires_factor", "img2img").is_visible()
    assert "hires" not in tab.accordion("img2img").inner_text()


def test_the_mode_shows_its_own_controls(tab):
    tab.open()
    tab.unfold()
    for mode, shown, hidden in (("manual", MANUAL, AUTO), ("auto", AUTO, MANUAL)):
        tab.select(ID("mode"), mode)
        assert tab.until(lambda names=shown: all(tab.knob(name).is_visible() for name in names))
        assert not any(tab.knob(name).is_visible() for name in hidden)
        for name in (*BOTH, *shown):
            texts = tab.knob(name).inner_text().strip().split("\n")
            assert any(len(text) > 20 for text in texts), f"{name} explains nothing"


def test_a_generation_receives_the_values_on_the_page(tab):
    tab.open()
    tab.find(f"#{ID('grid')} input[type=range]").press("ArrowLeft")
    assert tab.until(lambda: tab.asked and tab.asked[-1]["grid"] == 40)
    tab.unfold()
    tab.select(ID("mode"), "manual")
    tab.until(lambda: tab.knob("factor").is_visible())
    numbers = {"factor": 2.5, "deep_factor": 1.75, "start": 0.1, "end": 0.85, "hires_factor": 3.25}
    for name, value in numbers.items():
        tab.number(ID(name), value)
    tab.tick(ID("max_downsample"), "4")
    tab.select(ID("method"), "nearest-exact")
    tab.select(ID("phase"), "fixed")
    tab.select(ID("passes"), "first")
    tab.tick(ID("taper"))
    tab.tick(ID("controlnet"))
    tab.select(ID("compare"), "with neighbouring settings")
    assert tab.values() == [
        True,
        "manual",
        40,
        2.5,
        1.75,
        "4",
        "nearest-exact",
        "fixed",
        0.1,
        0.85,
        True,
        "first",
        3.25,
        False,
        "with neighbouring settings",
    ]
    assert tab.until(lambda: tab.asked[-1]["taper"] is True)
    assert tab.asked[-1]["max_downsample"] == "4"


# --- the live line


def test_it_follows_the_size_and_the_knobs(tab, address):
    tab.open()
    assert tab.live_is(bool) == AT_512 == summary(address, 512, 512)
    tab.number("txt2img_width", 1024)
    tab.number("txt2img_height", 1536)
    text = tab.live_is(lambda text: text.startswith("1024×1536") and "keys/values" in text)
    assert text == summary(address, 1024, 1536)
    tab.number(ID("grid"), 32)
    assert tab.live_is(lambda new: new != text) == summary(address, 1024, 1536, grid=32)
    tab.select(ID("mode"), "manual")
    expected = summary(address, 1024, 1536, mode="manual")
    assert tab.live_is(lambda new: new == expected)
    assert ": up to " in expected


def test_the_hires_pass_has_its_own_line(tab, address):
    tab.open()
    tab.find("#txt2img_hr .label-wrap").first.click()
    text = tab.live_is(lambda text: "hires pass" in text)
    expected = summary(address, 1024, 1024, hires="true").replace(": ", ": hires pass: ", 1)
    assert text.split("\n") == [AT_512, expected]
    tab.number("txt2img_hr_scale", 3)
    assert "1536×1536: hires pass: " in tab.live_is(lambda text: "1536" in text)
    tab.find("#txt2img_hr .label-wrap").first.click()
    assert tab.live_is(lambda text: "hires" not in text) == AT_512


def test_img2img_uses_the_size_that_it_scales_to(tab):
    tab.find("#tabs button").filter(has_text="img2img").first.click()
    tab.open("img2img")
    assert tab.live_is(bool, "img2img") == AT_512
    tab.find("#img2img_tabs_resize button").filter(has_text="Resize by").click()
    tab.number("img2img_scale", 2)
    assert "keys/values" in tab.live_is(lambda text: text.startswith("1280×1024"), "img2img")
    tab.find("#img2img_tabs_resize button").filter(has_text="Resize to").click()
    assert tab.live_is(lambda text: text.startswith("512"), "img2img") == AT_512


def test_a_number_that_is_being_typed_is_waited_for(tab):
    tab.open()
    tab.live_is(bool)
    asked = tab.settle()
    box = tab.find("#txt2img_width input[type=number]")
    box.fill("5")
    tab.settle()
    assert tab.live() == AT_512
    box.fill("1024")
    tab.live_is(lambda text: text.startswith("1024×512: "))
    assert len(tab.asked) == asked + 1


def test_an_emptied_box_keeps_its_number(tab):
    tab.open()
    tab.live_is(bool)
    asked = tab.settle()
    box = tab.find(f"#{ID('grid')} input[type=number]")
    box.fill("")
    tab.settle()
    assert len(tab.asked) == asked
    box.blur()
    assert tab.values()[2] == DEFAULTS[2]
    assert box.input_value() == str(DEFAULTS[2])


def test_a_wrong_value_is_told_once_by_its_label(tab):
    tab.open()
    tab.find("#txt2img_hr .label-wrap").first.click()
    tab.live_is(lambda text: "hires pass" in text)
    tab.number(ID("end"), 0.2)
    tab.number(ID("start"), 0.6)
    text = tab.live_is(lambda text: "must" in text)
    assert text.startswith("Steps: from 0.6 is after Steps: to 0.2")
    assert len(text.split("\n")) == 1
    tab.number(ID("end"), 1)
    tab.live_is(lambda text: "hires pass" in text)


def test_typing_in_a_dropdown_sends_no_request(tab):
    tab.open()
    tab.unfold()
    tab.live_is(bool)
    asked = tab.settle()
    tab.find(f"#{ID('method')} input").press_sequentially("ne")
    tab.settle()
    assert tab.live() == AT_512
    assert len(tab.asked) == asked


def test_the_line_is_empty_while_the_host_does_not_answer(tab):
    tab.open()
    tab.live_is(bool)
    tab.page.route("**/run/*", lambda route: route.abort())
    tab.number("txt2img_width", 1024)
    tab.live_is(lambda text: text == "")
    tab.page.unroute("**/run/*")
    assert tab.live_is(bool).startswith("1024×512")
    assert len(tab.asked) <= 4
    tab.errors.clear()  # the browser reports the failed request


# --- requests to the host


def test_no_requests_while_nothing_changes(tab):
    tab.number("txt2img_width", 1024)
    tab.settle()
    assert tab.asked == []  # the accordion is closed
    tab.open()
    tab.live_is(bool)
    tab.page.wait_for_timeout(1000 * (BUSY_SECONDS + 0.5))
    assert len(tab.asked) == 1
    tab.open()
    tab.number("txt2img_width", 512)
    assert tab.settle() == 1
    tab.open()
    assert tab.settle() == 2


def test_each_change_sends_one_request(tab):
    tab.open()
    tab.live_is(bool)
    tab.number(ID("grid"), 32)
    assert tab.settle() == 2
    tab.find("#txt2img_hr .label-wrap").first.click()
    tab.live_is(lambda text: "hires pass" in text)
    before = tab.settle()
    tab.number(ID("end"), 0.5)
    assert tab.settle() - before == 1


# --- the checkpoint


def test_another_checkpoint_changes_the_line_as_soon_as_it_is_there(tab, address):
    tab.open()
    tab.number("txt2img_width", 2048)
    tab.number("txt2img_height", 2048)
    expected = summary(address, 2048, 2048, "sdxl")
    assert tab.live_is(lambda text: text.startswith("2048×2048")) != expected
    before = tab.settle()
    tab.select("setting_sd_model_checkpoint", SLOW)
    assert tab.live_is(lambda text: text == expected)
    assert tab.settle() - before <= 3
    tab.select("setting_sd_model_checkpoint", SD3)
    assert (
        tab.live_is(lambda text: "no effect" in text)
        == "2048×2048: no effect on LoadedModel (ToDo is for SD1/SD2/SDXL)"
    )


# --- infotext


def test_infotext_fills_every_control(tab):
    tab.paste(
        "cat\nSteps: 20, Size: 512x512, ToDo: manual, ToDo factor: 3.5, ToDo deep factor: 2.0, ToDo max downsample: 2, "
        "ToDo method: nearest-exact, ToDo phase: fixed, ToDo start: 0.1, ToDo end: 0.9, ToDo taper: True, "
        "ToDo passes: hires, ToDo hires factor: 4.0, ToDo grid: 96, ToDo controlnet: False"
    )
    assert tab.until(tab.ticked)
    assert tab.until(lambda: tab.knob("factor").is_visible())
    assert not tab.knob("grid").is_visible()
    assert tab.values() == [
        True,
        "manual",
        96,
        3.5,
        2,
        "2",
        "nearest-exact",
        "fixed",
        0.1,
        0.9,
        True,
        "hires",
        4,
        False,
        "off",
    ]
    tab.live_is(lambda text: text == "512×512: no effect in this pass")
    # Infotext with the defaults resets all controls. Infotext without ToDo switches it off.
    tab.paste(f"cat\nSteps: 20, Size: 512x512, ToDo: auto, ToDo grid: {DEFAULTS[2]}")
    assert tab.until(lambda: tab.knob("grid").is_visible())
    assert tab.values() == [True, *DEFAULTS[1:]]
    tab.paste("cat\nSteps: 20, Seed: 1, Size: 512x512")
    assert tab.until(lambda: not tab.ticked())
    assert tab.values() == DEFAULTS


# --- the measurement


def measured(tab, first):
    """The lines of a measurement, once the first one starts with `first`."""
    tab.find(f"#{ID('measure')}").click()
    result = tab.find(f".prose#{ID('measured')}")
    assert tab.until(lambda: result.inner_text().startswith(first))
    return result.inner_text().split("\n")


def test_it_measures_the_settings_on_the_page(tab):
    tab.open()
    tab.number("txt2img_width", 256)
    tab.number("txt2img_height", 192)
    tab.number("txt2img_batch_size", 2)
    tab.number(ID("grid"), 16)
    line, *plot = measured(tab, "256×192, batch of 2: dense ")
    assert "by arithmetic " in line
    assert plot[::2] == ["dense", "16 per side"]  # 24 have no effect at this size
    tab.find("#txt2img_hr .label-wrap").first.click()
    tab.number("txt2img_batch_size", 1)
    tab.number("txt2img_width", 128)
    tab.number("txt2img_height", 96)
    tab.live_is(lambda text: "256×192: hires pass" in text)
    lines = measured(tab, "128×96: no effect at this size (it acts from about 160×160 on)")
    assert any(line.startswith("256×192, hires pass: dense ") for line in lines)


def test_measuring_can_be_stopped(tab):
    tab.open()
    start, stop = (tab.find(f"#{ID(name)}") for name in ("measure", "stop"))
    assert not stop.is_visible()
    result = tab.find(f".prose#{ID('measured')}")
    start.click()
    assert tab.until(stop.is_visible)
    assert not start.is_visible()
    # The progress bar is drawn over the box, which must not be empty.
    assert result.bounding_box()["height"] > 40
    stop.click()
    assert tab.until(lambda: result.inner_text() == "Measurement stopped")
    assert tab.until(start.is_visible)
    assert not stop.is_visible()


def test_something_is_shown_before_the_host_has_answered(tab):
    tab.open()
    tab.live_is(bool)
    box = tab.find(f"#{ID('measured')}").first
    assert not box.bounding_box() or box.bounding_box()["height"] < 10
    tab.page.route("**/run/*", lambda route: None)  # no answer
    tab.find(f"#{ID('measure')}").click()
    assert box.bounding_box()["height"] > 40


def test_the_live_line_tells_what_was_measured(tab):
    tab.open()
    tab.number("txt2img_width", 256)
    tab.number("txt2img_height", 192)
    tab.number(ID("grid"), 16)
    tab.live_is(lambda text: text.startswith("256×192: up to "))
    measured(tab, "256×192: dense ")
    assert tab.live_is(lambda text: "measured" in text).startswith("256×192: measured ")
    tab.number("txt2img_batch_size", 3)
    tab.live_is(lambda text: text.startswith("256×192: up to "))


# --- appearance


def test_nothing_overflows(tab, artifacts):
    tab.open()
    tab.number("txt2img_width", 256)
    tab.number("txt2img_height", 256)
    tab.number(ID("grid"), 16)
    measured(tab, "256×256: dense ")
    tab.number("txt2img_width", 1024)
    tab.number("txt2img_height", 1024)
    tab.find("#txt2img_hr .label-wrap").first.click()
    tab.select(ID("mode"), "manual")
    tab.live_is(lambda text: "hires pass: up to " in text)
    tab.unfold()
    tab.page.mouse.move(0, 0)
    for name in ("accordion.png", "accordion-dark.png"):
        tab.page.evaluate("dark => document.body.classList.toggle('dark', dark)", "dark" in name)
        tab.page.wait_for_timeout(300)
        tab.page.screenshot(path=str(artifacts / name), full_page=True)
    assert tab.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    cut = tab.accordion().evaluate(
        "root => [...root.querySelectorAll(':not(input)')].map((node) => [node.className, node.scrollWidth,"
        " node.clientWidth]).filter(([name, needed, given]) => given > 0 && needed > given + 1)"
    )
    assert cut == []
