"""A client of a running ComfyUI, and the workflows that the tests run."""

from __future__ import annotations

import hashlib
import io
import time
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
from PIL import Image

NODE = "ToDoTokenDownsampling"
OLDER = "ToDoProbeOlder"
"""The node as a ComfyUI without `comfy_api` has it."""
DEFAULTS: dict[str, Any] = {
    "mode": "auto", "grid": 48, "factor": 2.0, "deep_factor": 1.0, "max_downsample": "4", "method": "nearest",
    "phase": "cycle", "start": 0.0, "end": 1.0, "taper": False, "controlnet": True,
}  # fmt: skip

Workflow = dict[str, dict[str, Any]]


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def todo(kind: str = NODE, **values: Any) -> dict[str, Any]:
    """The node of ToDo, with its defaults. Its model is set where it is put into a workflow."""
    return node(kind, **{**DEFAULTS, **values})


HALF = todo(mode="manual", factor=2.0, phase="fixed")
"""What the probe's reference computes, too."""


def workflow(
    *patches: dict[str, Any],
    checkpoint: str,
    size: int = 256,
    seed: int = 1,
    control: bool = False,
    lora: str = "",
    **sampler: Any,
) -> Workflow:
    """Text to image, with nodes that patch the model one after the other."""
    graph = {"checkpoint": node("CheckpointLoaderSimple", ckpt_name=checkpoint)}
    model, clip = ["checkpoint", 0], ["checkpoint", 1]
    if lora:
        graph["lora"] = node(
            "LoraLoader", model=model, clip=clip, lora_name=lora, strength_model=1.0, strength_clip=1.0
        )
        model, clip = ["lora", 0], ["lora", 1]
    for number, patch in enumerate(patches):
        graph[f"patch {number}"] = {**patch, "inputs": {**patch["inputs"], "model": model}}
        model = [f"patch {number}", 0]
    graph["positive"] = node("CLIPTextEncode", clip=clip, text="a cup of coffee")
    graph["negative"] = node("CLIPTextEncode", clip=clip, text="blurry")
    positive, negative = ["positive", 0], ["negative", 0]
    if control:
        graph["image"] = node("EmptyImage", width=size, height=size, batch_size=1, color=0x8040C0)
        graph["net"] = node("ControlNetLoader", control_net_name="tiny-controlnet.safetensors")
        graph["control"] = node(
            "ControlNetApplyAdvanced", positive=positive, negative=negative, control_net=["net", 0],
            image=["image", 0], strength=1.0, start_percent=0.0, end_percent=1.0,
        )  # fmt: skip
        positive, negative = ["control", 0], ["control", 1]
    graph["latent"] = node("EmptyLatentImage", width=size, height=size, batch_size=1)
    graph["sampler"] = node(
        "KSampler", model=model, positive=positive, negative=negative, latent_image=["latent", 0], seed=seed,
        **{"steps": 4, "cfg": 5.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0, **sampler},
    )  # fmt: skip
    return finished(graph, ["sampler", 0])


def finished(graph: Workflow, latent: list[Any]) -> Workflow:
    """A workflow with the nodes that decode and show its latent."""
    graph["decoded"] = node("VAEDecode", samples=latent, vae=["checkpoint", 2])
    graph["saved"] = node("PreviewImage", images=["decoded", 0])
    return graph


@dataclass
class Run:
    """What became of a workflow."""

    status: str
    image: np.ndarray | None = None
    errors: list[str] = field(default_factory=list)

    @property
    def sha(self) -> str:
        assert self.image is not None, self
        return hashlib.sha256(self.image.tobytes()).hexdigest()


class ComfyUI:
    def __init__(self, url: str):
        self.http = httpx.Client(base_url=url, timeout=600)
        self.submitted = time.time()

    def ask(self, path: str) -> Any:
        answer = self.http.get(path)
        assert answer.status_code == 200, f"{path}: {answer.status_code}; is tests/comfyui/probe in custom_nodes?"
        return answer.json()

    def probe(self, action: str, **query: Any) -> None:
        assert self.http.post(f"/todo-probe/{action}", params=query).status_code == 200

    def submit(self, graph: Workflow) -> httpx.Response:
        """Queues a workflow. An input that no sampler knows makes it run again what it finds in its cache."""
        self.submitted += 1
        fresh = {
            name: {**each, "inputs": {**each["inputs"], "run": self.submitted}}
            if "Sampler" in each["class_type"] or "Upscale" in each["class_type"] else each
            for name, each in graph.items()
        }  # fmt: skip
        return self.http.post("/prompt", json={"prompt": fresh})

    def run(self, graph: Workflow) -> Run:
        answer = self.submit(graph)
        if answer.status_code != 200:
            details = [error["details"] for node in answer.json()["node_errors"].values() for error in node["errors"]]
            return Run("rejected", errors=details)
        return self.result(answer.json()["prompt_id"])

    def result(self, prompt: str) -> Run:
        while True:
            found = self.ask(f"/history/{prompt}").get(prompt)
            if found and found.get("status", {}).get("status_str"):
                break
            time.sleep(0.1)
        errors = [message[1].get("exception_message", message[0]) for message in found["status"]["messages"]
                  if message[0] in ("execution_error", "execution_interrupted")]  # fmt: skip
        images = [image for output in found["outputs"].values() for image in output.get("images", [])]
        run = Run(found["status"]["status_str"], errors=errors)
        if images:
            content = self.http.get("/view", params=images[0]).content
            run.image = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
        return run
