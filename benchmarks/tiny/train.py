"""Trains the tiny model: `python -m benchmarks.tiny train`. An interrupted training continues where it was saved. Each
step draws from a generator seeded with its number, so that training in several parts gives the same weights."""

from __future__ import annotations

import csv
import math
import pickle
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import interrupt, output
from benchmarks.tiny import latents, photographs
from benchmarks.tiny.model import MIRRORED, TRAINED_SIDE, TinyModel, save
from benchmarks.tiny.sampler import noise_schedule
from todo import SettingsError

_BATCHES = ((TRAINED_SIDE, 8, 0.8), (TRAINED_SIDE * 3 // 2, 4, 0.12), (TRAINED_SIDE * 2, 2, 0.08))
"""Pixels per side, images per step, share of the steps. Some steps use the larger sizes at which ToDo is measured."""

_LEARNING_RATE, _WARM_UP = 1e-3, 200
_AVERAGED = 0.998
"""Decay of the weights' moving average, which is what is published."""

_UNCONDITIONAL = 0.1
"""Share of images with an empty prompt, which guidance needs."""

_MINIMUM_SIGMA = 0.2
"""The loss is divided by the noise's standard deviation, but at least by this: below it the image is all but done."""

_LOGGED, _SAVED = 50, 500
"""Steps between two lines of the log, and between two saved states."""


@dataclass
class _State:
    """The state of a training, which is saved and restored."""

    model: TinyModel
    averaged: TinyModel
    optimizer: torch.optim.Optimizer
    step: int = 0

    def values(self) -> dict[str, Any]:
        parts: dict[str, Any] = {"model": self.model, "averaged": self.averaged, "optimizer": self.optimizer}
        return {name: part.state_dict() for name, part in parts.items()} | {"step": self.step}

    def restore(self, values: dict[str, Any]) -> None:
        self.model.load_state_dict(values["model"])
        self.averaged.load_state_dict(values["averaged"])
        self.optimizer.load_state_dict(values["optimizer"])
        self.step = values["step"]


def train(steps: int, seed: int, device: torch.device, weights: Path, saved: Path) -> None:
    """Trains up to `steps` steps in all, and writes the averaged weights and a log of the loss beside them.

    Args:
        saved: file of the state, from which training continues if it exists.

    Raises:
        SettingsError: a file cannot be written.
    """
    log = weights.with_name("loss.csv")
    output.check(weights, log, saved)
    images = [photographs.load(photograph) for photograph in photographs.PHOTOGRAPHS]
    state = _begin(images, seed, device)
    if saved.exists():
        _restore(state, saved, device)
    _truncate(log, state.step)
    losses: list[float] = []
    start = time.perf_counter()
    while state.step < steps:
        losses.append(_step(state, images, steps, seed))
        if state.step % _LOGGED == 0:
            _log(log, state.step, sum(losses) / len(losses), time.perf_counter() - start)
            losses.clear()
        if state.step % _SAVED == 0 or state.step == steps:
            _save(state, weights, saved)


def _restore(state: _State, saved: Path, device: torch.device) -> None:
    try:
        state.restore(torch.load(saved, map_location=device))
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError, ValueError):
        raise SettingsError("state", f"state: {str(saved)!r} holds no state of this training") from None


def _begin(images: list[Tensor], seed: int, device: torch.device) -> _State:
    torch.manual_seed(seed)
    transform = latents.fit(images)
    model, averaged = TinyModel(transform).to(device), TinyModel(transform).to(device)
    averaged.load_state_dict(model.state_dict())
    return _State(model, averaged.requires_grad_(False), torch.optim.AdamW(model.parameters(), _LEARNING_RATE))


def _step(state: _State, images: list[Tensor], steps: int, seed: int) -> float:
    generator = torch.Generator().manual_seed(seed * 1_000_003 + state.step)
    for group in state.optimizer.param_groups:
        group["lr"] = _learning_rate(state.step, steps)
    loss = _loss(state.model, images, generator)
    state.optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(state.model.parameters(), 1.0)
    state.optimizer.step()
    state.step += 1
    decay = min(_AVERAGED, state.step / (state.step + 10))
    for average, parameter in zip(state.averaged.parameters(), state.model.parameters(), strict=True):
        average.lerp_(parameter.detach(), 1 - decay)
    return loss.item()


def _learning_rate(step: int, steps: int) -> float:
    """A linear warm-up, then half a cosine down to a hundredth."""
    cosine = 0.01 + 0.99 * (1 + math.cos(math.pi * step / steps)) / 2
    return _LEARNING_RATE * min((step + 1) / _WARM_UP, cosine)


def _loss(model: TinyModel, images: list[Tensor], generator: torch.Generator) -> Tensor:
    """The squared error of the predicted latents for one batch, over the noise's standard deviation. Without this
    division the error at strong noise, where an image's layout is decided, would outweigh that of fine detail."""
    weights = torch.tensor([share for *_, share in _BATCHES])
    side, count, _ = _BATCHES[int(torch.multinomial(weights, 1, generator=generator))]
    views, prompts = _batch(images, side, count, generator)
    device = model.device
    latent = model.transform.encode(views.to(device))
    noise = torch.randn(latent.shape, generator=generator).to(device)
    alphas = noise_schedule().alphas_cumprod
    timesteps = torch.randint(len(alphas), (count,), generator=generator)
    signal, sigma = (part[timesteps].sqrt().view(-1, 1, 1, 1).to(device) for part in (alphas, 1 - alphas))
    noisy = signal * latent + sigma * noise
    with torch.autocast(device.type, torch.bfloat16):
        predicted = model(noisy, timesteps.to(device), model.context(prompts, (side, side)))
    return ((predicted.float() - latent).square() / sigma.clamp(min=_MINIMUM_SIGMA)).mean()


def _batch(images: list[Tensor], side: int, count: int, generator: torch.Generator) -> tuple[Tensor, list[str]]:
    """Views (count, 3, side, side) of random photographs, and their prompts."""
    chosen = torch.randint(len(images), (count,), generator=generator).tolist()
    without_prompt = torch.rand(count, generator=generator) < _UNCONDITIONAL
    views, prompts = [], []
    for index, empty in zip(chosen, without_prompt.tolist(), strict=True):
        photograph = photographs.PHOTOGRAPHS[index]
        view, mirrored = photographs.view(images[index], photograph.middle, side, generator)
        views.append(view)
        prompts.append("" if empty else f"{photograph.prompt} {MIRRORED}" if mirrored else photograph.prompt)
    return torch.stack(views), prompts


def _truncate(log: Path, step: int) -> None:
    """Removes the log's lines after `step`, whose steps will be repeated."""
    rows = list(csv.reader(log.open(encoding="utf8"))) if log.exists() and step else [["step", "loss", "seconds"]]
    with log.open("w", encoding="utf8", newline="") as file:
        csv.writer(file).writerows(rows[:1] + [row for row in rows[1:] if int(row[0]) <= step])


def _log(log: Path, step: int, loss: float, seconds: float) -> None:
    print(f"step {step}: loss {loss:.4f}, {seconds:.0f} s", flush=True)
    with log.open("a", encoding="utf8", newline="") as file:
        csv.writer(file).writerow([step, f"{loss:.5f}", f"{seconds:.0f}"])


def _save(state: _State, weights: Path, saved: Path) -> None:
    partial = saved.with_suffix(".partial")
    torch.save(state.values(), partial)
    partial.replace(saved)
    save(state.averaged, weights)
    interrupt.kept.text = f"{saved} continues from step {state.step}"
