"""The node and the example workflow on ComfyUI's page, as LiteGraph draws nodes and as Nodes 2.0 does."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from tests.comfyui.client import DEFAULTS, NODE
from tests.ui.browser import CHROMIUM, missing

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

EXAMPLE = Path(__file__).parents[2] / "docs" / "comfyui-workflow.json"
SECONDS = 60
NODES_2 = "Comfy.VueNodes.Enabled"
TITLE = 30
"""LiteGraph draws a node's title above its position."""

BOXES = """() => app.extensionManager.setting.get('Comfy.VueNodes.Enabled')
    ? [...document.querySelectorAll('[data-node-id]')].map(node => {
        const {x, y, width, height} = node.getBoundingClientRect(); return [x, y, width, height]; })
    : app.graph.nodes.map(node => [...node.pos, ...node.size])"""

Box = tuple[float, float, float, float]


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--headless", "--no-sandbox"])
        page = browser.new_page(viewport={"width": 1900, "height": 1300})
        page.set_default_timeout(1000 * SECONDS)
        page.goto(os.environ["COMFYUI_URL"])
        page.wait_for_function("window.app?.canvas && app.graph && app.extensionManager?.setting")
        before = page.evaluate(f"app.extensionManager.setting.get('{NODES_2}')")
        yield page
        draw(page, before)
        browser.close()


def draw(page: Any, nodes_2: bool) -> None:
    page.evaluate("([name, value]) => app.extensionManager.setting.set(name, value)", [NODES_2, nodes_2])


@pytest.fixture(params=[False, True], ids=["LiteGraph", "Nodes 2.0"])
def nodes_2(request, page) -> bool:
    draw(page, request.param)
    return request.param


def example(sd1: str, **values: Any) -> dict[str, Any]:
    """The example workflow with a checkpoint that is there, and with other values in the node of ToDo."""
    graph = json.loads(EXAMPLE.read_text(encoding="utf8"))
    (checkpoint,) = (each for each in graph["nodes"] if each["type"] == "CheckpointLoaderSimple")
    (own,) = (each for each in graph["nodes"] if each["type"] == NODE)
    checkpoint["widgets_values"] = [sd1]
    checkpoint["widgets_values_named"] = {"ckpt_name": sd1}
    own["widgets_values_named"] |= values
    own["widgets_values"] = list(own["widgets_values_named"].values())
    return graph


def shown(page: Any, graph: dict[str, Any], nodes_2: bool) -> list[Box]:
    """Where the nodes of a workflow are drawn."""
    page.evaluate("graph => app.loadGraphData(graph)", graph)
    count = len(graph["nodes"])
    if nodes_2:
        page.wait_for_function(f"document.querySelectorAll('[data-node-id]').length === {count}")
        # The knobs of an expert are folded away. The node is the larger with them.
        page.get_by_text("Show advanced inputs").first.click()
        page.get_by_text("ControlNet too").first.wait_for()
    page.wait_for_timeout(500)
    boxes = [tuple(box) for box in page.evaluate(BOXES)]
    assert len(boxes) == count
    return boxes if nodes_2 else [(x, y - TITLE, width, height + TITLE) for x, y, width, height in boxes]


def overlap(one: Box, other: Box) -> bool:
    return all(one[axis] < other[axis] + other[axis + 2] and other[axis] < one[axis] + one[axis + 2] for axis in (0, 1))


def test_no_nodes_of_the_example_overlap(page, sd1, nodes_2):
    boxes = shown(page, example(sd1), nodes_2)
    assert [pair for pair in combinations(boxes, 2) if overlap(*pair)] == []


def test_the_example_has_the_defaults(page, sd1, nodes_2):
    shown(page, example(sd1), nodes_2)
    widgets = page.evaluate(
        f"app.graph.nodes.find(node => node.type === '{NODE}').widgets.map(each => [each.name, each.value])"
    )
    assert dict(widgets) == DEFAULTS


def test_a_wrong_value_is_one_error_in_the_pages_words(page, sd1, nodes_2):
    shown(page, example(sd1, start=0.8, end=0.3), nodes_2)
    page.evaluate("app.queuePrompt(0)")
    page.get_by_text("Steps: from 0.8 is after Steps: to 0.3").first.wait_for()
    (errors,) = page.evaluate("Object.values(app.lastNodeErrors).map(node => node.errors)")
    assert len(errors) == 1
