"""A minimal WebUI page in a separate process: python -m tests.standin.page PORT.

It has two tabs. Each has the controls that an extension reads, with the host's ids; this extension's accordion; a field
for infotext; and a button that shows all the values that a generation would receive.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
import uvicorn
from fastapi import FastAPI, Request, Response
from starlette.responses import FileResponse

from tests.standin import host as standin
from tests.standin import models

SCRIPTS = {"page.js": Path(__file__).with_name("page.js"), "todo.js": standin.ROOT / "javascript" / "todo.js"}
STYLE = (standin.ROOT / "style.css").read_text(encoding="utf8")
STYLE += ".input-accordion .input-accordion-checkbox { margin-right: 0.5em !important }"
CHECKPOINTS = {
    "sd15.safetensors [aaaaaaaaaa]": ("sd1", 0.0),
    "slow.safetensors [cccccccccc]": ("sdxl", 2.0),
    "sd3.safetensors [dddddddddd]": ("sd3", 0.0),
}


def model(family: str) -> Any:
    return models.LoadedModel(standin.small_unet(), family)


def page(host: standin.Host) -> None:
    titles = list(CHECKPOINTS)
    checkpoint = gr.Dropdown(titles, value=titles[0], label="Checkpoint", elem_id="setting_sd_model_checkpoint")
    checkpoint.change(lambda title: host.use_checkpoint(title) and None, checkpoint, None, show_progress="hidden")
    with gr.Tabs(elem_id="tabs"):
        for tab, runner in (("txt2img", host.scripts.scripts_txt2img), ("img2img", host.scripts.scripts_img2img)):
            with gr.TabItem(tab, id=tab, elem_id=f"tab_{tab}"):
                runner.initialize_scripts(tab == "img2img")
                build_tab(host, tab, runner)


def build_tab(host: standin.Host, tab: str, runner: Any) -> None:
    gr.Textbox(label="Prompt", elem_id=f"{tab}_prompt")
    with gr.Row():
        with gr.Column(elem_id=f"{tab}_settings"):
            sizes(host, tab)
            gr.Slider(1, 8, 1, step=1, label="Batch size", elem_id=f"{tab}_batch_size", interactive=True)
            runner.prepare_ui()
            runner.setup_ui()
        with gr.Column():
            text = gr.Textbox(label="Infotext", elem_id=f"{tab}_infotext")
            paste = gr.Button("Paste", elem_id=f"{tab}_paste")
            generate = gr.Button("Generate", elem_id=f"{tab}_generate")
            values = gr.Textbox(label="Values", elem_id=f"{tab}_values")
    host.infotext_utils.connect_paste(paste, runner.infotext_fields, text, None, tab)
    generate.click(lambda *given: json.dumps(given), inputs=runner.inputs[1:], outputs=values, show_progress="hidden")


def sizes(host: standin.Host, tab: str) -> None:
    def side(label: str) -> gr.Slider:
        return gr.Slider(64, 2048, 512, step=8, label=label, elem_id=f"{tab}_{label.lower()}")

    if tab == "txt2img":
        width, height = side("Width"), side("Height")
        with host.ui_components.InputAccordion(False, label="Hires. fix", elem_id="txt2img_hr") as enable_hr:
            target = gr.HTML("", elem_id="txtimg_hr_finalres")
            scale = gr.Slider(1.0, 4.0, 2.0, step=0.05, label="Upscale by", elem_id="txt2img_hr_scale")
        inputs = [enable_hr, width, height, scale]
        for control in inputs:
            control.change(hires_target, inputs, target, show_progress="hidden")
        return
    with gr.Tabs(elem_id="img2img_tabs_resize"):
        with gr.Tab("Resize to", elem_id="img2img_tab_resize_to"):
            side("Width"), side("Height")
        with gr.Tab("Resize by", elem_id="img2img_tab_resize_by"):
            scale = gr.Slider(0.05, 4.0, 1.0, step=0.05, label="Scale", elem_id="img2img_scale")
            preview = gr.HTML("no image selected", elem_id="img2img_scale_resolution_preview")
            scale.change(lambda by: f"resize: {size_change(640, 512, by)}", scale, preview, show_progress="hidden")


def hires_target(enabled: bool, width: int, height: int, scale: float) -> str:
    return size_change(width, height, scale) if enabled else ""


def size_change(width: int, height: int, scale: float) -> str:
    before, after = f"{width}x{height}", f"{int(width * scale)}x{int(height * scale)}"
    return f"from <span class='resolution'>{before}</span> to <span class='resolution'>{after}</span>"


def loader(family: str, seconds: float) -> Callable[[], Any]:
    def load() -> Any:
        time.sleep(seconds)
        return model(family)

    return load


def application(host: standin.Host) -> FastAPI:
    app = FastAPI()

    @app.middleware("http")
    async def with_scripts(request: Request, call_next: Any) -> Response:
        response = await call_next(request)
        if request.url.path != "/":
            return response
        page = b"".join([part async for part in response.body_iterator])
        tags = "".join(f'<script src="/scripts/{name}"></script>' for name in SCRIPTS)
        return Response(page.replace(b"<head>", b"<head>" + tags.encode()), media_type="text/html")

    @app.get("/scripts/{name}")
    def script(name: str) -> FileResponse:
        return FileResponse(SCRIPTS[name], media_type="text/javascript")

    @app.post("/first-checkpoint")
    def first_checkpoint() -> None:
        """Tests share this process, so each selects the first checkpoint again."""
        host.use_checkpoint(next(iter(CHECKPOINTS)))

    host.script_callbacks.app_started_callback(host.demo, app)
    return gr.mount_gradio_app(app, host.demo.queue(), "/")


def main(port: int) -> None:
    with standin.running(page=page, style=STYLE) as host:
        rounds = host.ours("webui.measure.rounds")
        rounds.SECONDS, rounds.SCATTER = 2.0, 100.0  # the results need not be precise here
        for title, (family, seconds) in CHECKPOINTS.items():
            host.add_checkpoint(title, loader(family, seconds))
        host.use_checkpoint(next(iter(CHECKPOINTS)))
        uvicorn.run(application(host), host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main(int(sys.argv[1]))
