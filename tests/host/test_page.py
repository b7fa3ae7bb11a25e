"""ToDo's accordion on the page of a running WebUI, in headless Chromium."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image

from tests.host.calls import made
from tests.host.webui import ARTIFACTS, WebUI
from tests.ui.browser import CHROMIUM

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

TODO = "#script_txt2img_todo_"
NUMBERS = ("grid", "factor", "deep_factor", "start", "end", "hires_factor")
CHANGED: dict[str, dict[str, Any]] = {
    "auto": {"grid": 96},
    "manual": {
        **{"factor": 3, "deep_factor": 1.5, "max_downsample": "2", "start": 0.1, "end": 0.9, "hires_factor": 1.5},
        **{"method": "nearest-exact", "phase": "fixed", "taper": True, "controlnet": False, "passes": "hires"},
        "compare": "with dense",
    },
}
"""Another value than the default for every control, by the mode in which it is shown."""
INFOTEXT = (
    "a cat\nSteps: 4, Sampler: Euler, CFG scale: 5, Seed: 7, Size: 256x320, "
    "ToDo: manual, ToDo factor: 3.5, ToDo end: 0.8, ToDo taper: True, ToDo method: nearest-exact, Version: v1.10.1"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not CHROMIUM:
        pytest.skip("no browser: chromium is not installed and CHROMIUM is not set")
    with playwright.sync_playwright() as tools:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
        running = tools.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield running
        running.close()


@pytest.fixture
def page(browser: Any, webui: WebUI) -> Iterator[Any]:
    opened = browser.new_page(viewport={"width": 1280, "height": 1600})
    opened.errors = []
    opened.plans = []
    # The host's own page has some errors, too, with or without this extension.
    opened.on(
        "pageerror", lambda error: opened.errors.append(error.stack) if "todo.js" in (error.stack or "") else None
    )
    # The live line's questions are events of the page. Their first value is JSON with an id.
    opened.on("request", lambda request: opened.plans.append(1) if '{\\"id\\":' in (request.post_data or "") else None)
    # Blocks fonts and the like from other servers. The page works without them.
    opened.route("**/*", lambda route: route.continue_() if webui.url in route.request.url else route.abort())
    opened.goto(webui.url)
    opened.wait_for_selector(f"{TODO}enabled .label-wrap", state="attached", timeout=60_000)
    yield opened
    errors = opened.errors
    opened.close()
    assert errors == []


def set_number(page: Any, selector: str, value: str) -> None:
    box = page.locator(f"{selector} input[type=number]").first
    box.fill(value)
    box.press("Tab")


def number(page: Any, selector: str) -> float:
    return float(page.locator(f"{selector} input[type=number]").first.input_value())


def live_line(page: Any, text: str) -> None:
    playwright.expect(page.locator(f"{TODO}live").first).to_contain_text(text, timeout=15_000)


def switch_on(page: Any, todo: str = TODO) -> None:
    # Opening the accordion enables ToDo.
    page.locator(f"{todo}enabled > .label-wrap").click()
    page.wait_for_selector(f"{todo}mode", state="visible")
    assert is_on(page, todo)


def is_on(page: Any, todo: str = TODO) -> bool:
    # WebUI 1.6 only has the hidden checkbox.
    boxes = page.locator(f"{todo}enabled-visible-checkbox, {todo}enabled-checkbox input")
    return boxes.first.is_checked()


TOO_SMALL = "at this size in so few steps (it acts from about 640×640 on)"


def test_live_line_follows_the_page(page: Any, dense: list[str]) -> None:
    assert not is_on(page)
    switch_on(page)
    set_number(page, "#txt2img_width", "448")
    set_number(page, "#txt2img_height", "448")
    live_line(page, "448×448: no effect at this size (it acts from about 480×480 on)")
    set_number(page, "#txt2img_width", "512")
    set_number(page, "#txt2img_height", "512")
    live_line(page, "512×512: up to 1.2× faster · keeps 25 % of keys/values")
    set_number(page, "#txt2img_steps", "4")
    live_line(page, f"512×512: no effect {TOO_SMALL}")
    set_number(page, "#txt2img_steps", "20")
    set_number(page, "#txt2img_width", "1024")
    set_number(page, "#txt2img_height", "1024")
    live_line(page, "1024×1024: up to 1.6× faster · keeps 14 % of keys/values")
    page.locator("#txt2img_hr > .label-wrap").click()
    set_number(page, "#txt2img_hr_scale", "2")  # ersatzForge's default is 1.25
    live_line(page, "2048×2048: hires pass: up to 3.6× faster · keeps 4 % of keys/values")
    set_number(page, f"{TODO}grid", "32")
    live_line(page, "keeps 2 % of keys/values")
    asked = len(page.plans)
    assert asked <= 20
    page.wait_for_timeout(3000)
    assert len(page.plans) == asked, "no requests while nothing changes"
    ARTIFACTS.mkdir(exist_ok=True)
    page.locator(f"{TODO}enabled").screenshot(path=ARTIFACTS / "host-accordion.png")


def test_generation_from_the_page(page: Any, dense: list[str]) -> None:
    switch_on(page)
    for side in ("width", "height"):
        set_number(page, f"#txt2img_{side}", "256")
    set_number(page, "#txt2img_steps", "2")
    page.locator("#txt2img_generate").click()
    information = page.locator("#html_info_txt2img").first
    playwright.expect(information).to_contain_text("ToDo: auto", timeout=120_000)
    playwright.expect(information).to_contain_text(f"ToDo effect: none {TOO_SMALL}")
    playwright.expect(page.locator("#html_log_txt2img").first).to_contain_text(f"ToDo has no effect {TOO_SMALL}")
    live_line(page, f"256×256: no effect {TOO_SMALL}")


def test_paste_and_send_to(page: Any, dense: list[str]) -> None:
    page.locator("#txt2img_prompt textarea").fill(INFOTEXT)
    page.locator("#tab_txt2img #paste").click()
    page.wait_for_selector(f"{TODO}factor", state="visible", timeout=15_000)
    assert is_on(page)
    assert number(page, f"{TODO}factor") == 3.5
    assert number(page, f"{TODO}end") == 0.8
    assert page.locator(f"{TODO}taper input").is_checked()
    assert page.locator(f"{TODO}method input").first.input_value() == "nearest-exact"
    assert not page.locator(f"{TODO}grid").is_visible()
    page.locator("#txt2img_generate").click()
    playwright.expect(page.locator("#html_info_txt2img").first).to_contain_text("ToDo factor: 3.5", timeout=120_000)
    page.locator("#txt2img_send_to_img2img").click()
    other = TODO.replace("txt2img", "img2img")
    page.wait_for_selector(f"{other}factor", state="visible", timeout=15_000)
    assert number(page, f"{other}factor") == 3.5
    assert is_on(page, other)


def choose(page: Any, name: str, value: str, todo: str = TODO) -> None:
    page.locator(f"{todo}{name} input").first.click()
    page.locator(f"{todo}{name} li").filter(has_text=re.compile(f"^\\W*{re.escape(value)}\\W*$")).first.click()


def test_compare_from_the_page(page: Any, dense: list[str]) -> None:
    switch_on(page)
    for side in ("width", "height"):
        set_number(page, f"#txt2img_{side}", "256")
    set_number(page, "#txt2img_steps", "2")
    choose(page, "mode", "manual")
    choose(page, "compare", "with neighbouring settings")
    page.locator("#txt2img_generate").click()
    log = page.locator("#html_log_txt2img").first
    playwright.expect(log).to_contain_text("Compare with neighbouring settings: sampling: ", timeout=240_000)
    shown = page.locator("#txt2img_gallery img").evaluate_all("found => found.map((image) => image.src)")
    images = {address for address in shown if not address.startswith("data:")}  # as the live preview is
    assert len(images) == 1 + 1 + 3 + 1
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTIFACTS / "host-compare-page.png")


def test_compare_in_a_batch_from_a_directory(page: Any, webui: WebUI, tmp_path: Path) -> None:
    """The files that are written are the same as without comparing."""
    todo = TODO.replace("txt2img", "img2img")
    folders = {name: tmp_path / name for name in ("in", "off", "with dense", "with neighbouring settings")}
    for folder in folders.values():
        folder.mkdir()
    for seed in (1, 2):
        webui.txt2img(seed=seed).images[-1].save(folders["in"] / f"{seed}.png")
    page.locator("#tabs > .tab-nav button", has_text="img2img").first.click()
    page.locator("#mode_img2img > .tab-nav button", has_text="Batch").click()
    directory = page.locator("#img2img_batch_source button", has_text="From directory")
    if directory.count():
        directory.click()
    page.locator("#img2img_batch_input_dir textarea").fill(str(folders["in"]))
    for side in ("width", "height"):
        set_number(page, f"#img2img_{side}", "256")
    set_number(page, "#img2img_steps", "4")
    set_number(page, "#img2img_seed", "5")
    switch_on(page, todo)
    choose(page, "mode", "manual", todo)
    saves = webui.get("/sdapi/v1/options").json()["samples_save"]
    webui.http.post("/sdapi/v1/options", json={"samples_save": True})
    written = {}
    for compare in ("off", "with dense", "with neighbouring settings"):
        webui.txt2img()  # the host's encoder uses noise that depends on the previous generation
        page.locator("#img2img_batch_output_dir textarea").fill(str(folders[compare]))
        choose(page, "compare", compare, todo)
        page.locator("#img2img_generate").click()
        for _ in range(600):
            if len(files := sorted(folders[compare].glob("**/*.png"))) >= 2 and not job(webui):
                break
            page.wait_for_timeout(100)
        written[compare] = {file.name: Image.open(file).convert("RGB").tobytes() for file in files}
        assert len(files) == 2
    webui.http.post("/sdapi/v1/options", json={"samples_save": saves})
    alone = written.pop("off")
    assert list(written.values()) == [alone, alone]
    log = page.locator("#html_log_img2img").first
    playwright.expect(log).to_contain_text("nothing is compared where a batch from a directory asks for the images")


def job(webui: WebUI) -> int:
    """How many jobs the host has at work."""
    return int(webui.get("/sdapi/v1/progress").json()["state"]["job_count"])


def shown_values(page: Any) -> dict[str, Any]:
    """What the page shows of every control, those of the other mode left out."""
    values: dict[str, Any] = {"enabled": is_on(page)}
    for name in NUMBERS:
        if page.locator(f"{TODO}{name}").first.is_visible():
            values[name] = number(page, f"{TODO}{name}")
    for name in ("mode", "method", "phase", "passes", "compare"):
        values[name] = page.locator(f"{TODO}{name} input").first.input_value()
    for name in ("taper", "controlnet"):
        values[name] = page.locator(f"{TODO}{name} input").first.is_checked()
    radio = page.locator(f"{TODO}max_downsample input:checked")
    values["max_downsample"] = radio.first.input_value() if radio.count() else None
    return values


def fill(page: Any, values: dict[str, Any]) -> None:
    """Sets the controls of the mode that is shown."""
    for name, value in values.items():
        if name in NUMBERS:
            set_number(page, f"{TODO}{name}", str(value))
        elif name in ("taper", "controlnet"):
            page.locator(f"{TODO}{name} input").first.set_checked(value)
        elif name == "max_downsample":
            page.locator(f"{TODO}{name} label").filter(has_text=value).first.click()
        elif name != "enabled":
            choose(page, name, value)


def save_defaults(page: Any) -> None:
    """Settings → Defaults → Apply → Reload UI."""
    page.locator("#tabs > .tab-nav button", has_text="Settings").click()
    page.locator("#settings button", has_text=re.compile(r"^\s*Defaults\s*$")).first.click()
    page.locator("#ui_defaults_apply").click()
    playwright.expect(page.locator("#tab_defaults, #settings_tab_defaults").first).to_contain_text(
        "Wrote", timeout=30_000
    )
    page.locator("#settings_restart_gradio").click()


def opened_again(page: Any, webui: WebUI) -> None:
    """Waits for the host, which begins anew, and opens its page with ToDo's controls unfolded."""
    page.wait_for_timeout(3000)
    address = urlsplit(webui.url)
    for _ in range(120):
        # No request: A1111 ends if one comes before its API is complete.
        with suppress(OSError), socket.create_connection((address.hostname, address.port), timeout=1):
            break
        page.wait_for_timeout(1000)
    page.wait_for_timeout(15_000)
    page.goto(webui.url)
    page.wait_for_selector(f"{TODO}enabled .label-wrap", state="attached", timeout=120_000)
    if not page.locator(f"{TODO}mode").first.is_visible():
        page.locator(f"{TODO}enabled > .label-wrap").click()
        page.wait_for_selector(f"{TODO}mode", state="visible")
    page.locator(f"{TODO}more > .label-wrap").click()
    page.wait_for_selector(f"{TODO}method", state="visible")


def test_saved_defaults(page: Any, webui: WebUI) -> None:
    """Every control comes back as it was saved. Afterwards the host's defaults are as before."""
    if not webui.get("/sdapi/v1/options").json().get("use_ui_config_json", True):
        pytest.skip("this WebUI saves no defaults until its option use_ui_config_json is on, as in ersatzForge")
    auto, manual = ({"mode": mode, **CHANGED[mode]} for mode in ("auto", "manual"))
    switch_on(page)
    page.locator(f"{TODO}more > .label-wrap").click()
    page.wait_for_selector(f"{TODO}method", state="visible")
    before = shown_values(page)
    fill(page, auto)
    fill(page, manual)
    chosen = shown_values(page)
    assert {name: chosen[name] for name in manual} == manual
    save_defaults(page)
    opened_again(page, webui)
    try:
        assert shown_values(page) == chosen
        choose(page, "mode", "auto")
        assert number(page, f"{TODO}grid") == auto["grid"]
    finally:
        choose(page, "mode", "manual")
        fill(page, {"factor": 2, "deep_factor": 1, "hires_factor": 0})
        choose(page, "mode", "auto")
        fill(page, before)
        page.locator(f"{TODO}enabled > .label-wrap").click()
        save_defaults(page)
        opened_again(page, webui)
    assert {**shown_values(page), "enabled": True} == {**before, "enabled": True}


def measure(page: Any, side: int, ratio: str = "2") -> Any:
    """Starts a measurement at side × side pixels. Returns the element that will show the result."""
    switch_on(page)
    for name in ("width", "height"):
        set_number(page, f"#txt2img_{name}", str(side))
    page.locator(f"{TODO}mode input").first.click()
    page.locator(f"{TODO}mode li").filter(has_text="manual").first.click()
    set_number(page, f"{TODO}factor", ratio)
    page.locator(f"{TODO}measure").click()
    return page.locator(f"{TODO}measured").first


def test_measure(page: Any, webui: WebUI, dense: list[str]) -> None:
    result = measure(page, 256)
    playwright.expect(result).to_contain_text("256×256: dense ", timeout=120_000)
    text = result.inner_text()
    assert "by arithmetic " in text
    assert [label in text for label in ("dense", "ratio 1.5", "ratio 2", "ratio 3", "ratio 4")] == [True] * 5
    seen = {number for call in made(webui) for numbers in call["keys"].values() for number in numbers}
    assert {1024, 256, 121, 64} <= seen, "keys of the finest level, dense and with each ratio"
    ARTIFACTS.mkdir(exist_ok=True)
    for name in ("host-measure.png", "host-measure-dark.png"):
        page.evaluate("dark => document.body.classList.toggle('dark', dark)", "dark" in name)
        page.wait_for_timeout(300)
        page.locator(f"{TODO}enabled").screenshot(path=ARTIFACTS / name)
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    assert webui.txt2img().sha == dense, "the model is unchanged"


def test_measure_waits_for_a_running_generation(page: Any, webui: WebUI, dense: list[str]) -> None:
    long = {"width": 512, "height": 512, "steps": 12}
    alone = webui.txt2img(**long).sha
    made(webui)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(lambda: WebUI(webui.url).txt2img(**long).sha)
        wait_for_a_step(webui)
        result = measure(page, 256)
        assert running.result() == alone
    playwright.expect(result).to_contain_text("256×256: dense ", timeout=120_000)
    sizes = [size for size, _ in groupby(call["latent"] for call in made(webui))]
    assert sizes == [[64, 64], [32, 32]]
    assert webui.txt2img().sha == dense


def test_measuring_can_be_stopped(page: Any, webui: WebUI, dense: list[str]) -> None:
    result = measure(page, 512)
    wait_for_a_step(webui)
    page.locator(f"{TODO}stop").click()
    playwright.expect(result).to_have_text("Measurement stopped", timeout=60_000)
    assert webui.txt2img().sha == dense


def wait_for_a_step(webui: WebUI) -> None:
    """Waits until the host is sampling."""
    for _ in range(600):
        if webui.get("/sdapi/v1/progress").json()["state"]["job_count"]:
            return
        time.sleep(0.1)
