"""Trains the embedded model: `python -m todo.bench.painter.train`. Goes on where it was stopped; every step draws
from a generator seeded by its own number, so that a run in parts sees what a run in one would."""

from __future__ import annotations

import argparse
import csv
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from todo.bench.painter import latents, photographs
from todo.bench.painter.painter import MIRRORED, TRAINED_SIDE, WEIGHTS, Painter, save
from todo.bench.painter.sampler import noise_schedule

_BATCHES = ((TRAINED_SIDE, 8, 0.8), (TRAINED_SIDE * 3 // 2, 4, 0.12), (TRAINED_SIDE * 2, 2, 0.08))
"""Pixels per side, pictures per step, share of the steps. The larger ones are few, so that it has at least seen
the sizes at which ToDo is measured."""

_LEARNING_RATE, _WARM_UP = 1e-3, 200
_AVERAGED = 0.998
"""How much of the averaged weights, which are the ones that are kept, stays at every step."""

_UNTOLD = 0.1
"""Share of pictures whose prompt is empty, so that the model can be guided."""

_LEAST_SPREAD = 0.2
"""Less noise than this weighs no more: the picture is all but drawn there."""

_LOGGED, _SAVED = 50, 500
"""Steps between two lines of the log, and between two savings."""


@dataclass
class _Run:
    """What is saved and gone on from."""

    painter: Painter
    averaged: Painter
    optimizer: torch.optim.Optimizer
    step: int = 0

    def state(self) -> dict[str, Any]:
        parts: dict[str, Any] = {"painter": self.painter, "averaged": self.averaged, "optimizer": self.optimizer}
        return {name: part.state_dict() for name, part in parts.items()} | {"step": self.step}

    def restore(self, state: dict[str, Any]) -> None:
        self.painter.load_state_dict(state["painter"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=5000, help="in all (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", type=Path, default=WEIGHTS, help="the weights' file; its folder gets the log")
    parser.add_argument("--state", type=Path, default=Path("artifacts/painter.pt"), help="what is gone on from")
    options = parser.parse_args()
    train(options.steps, options.seed, torch.device(options.device), options.output, options.state)


def train(steps: int, seed: int, device: torch.device, output: Path, saved: Path) -> None:
    """Trains to `steps` steps in all and writes the averaged weights to `output`, the loss beside them."""
    images = [photographs.load(each) for each in photographs.PHOTOGRAPHS]
    run = _begin(images, seed, device)
    if saved.exists():
        run.restore(torch.load(saved, map_location=device))
    saved.parent.mkdir(parents=True, exist_ok=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    log = output.with_name("loss.csv")
    _cut(log, run.step)
    losses: list[float] = []
    began = time.perf_counter()
    while run.step < steps:
        losses.append(_step(run, images, steps, seed))
        if run.step % _LOGGED == 0:
            _log(log, run.step, sum(losses) / len(losses), time.perf_counter() - began)
            losses.clear()
        if run.step % _SAVED == 0 or run.step == steps:
            _keep(run, output, saved)


def _begin(images: list[Tensor], seed: int, device: torch.device) -> _Run:
    torch.manual_seed(seed)
    transform = latents.fit(images)
    painter, averaged = Painter(transform).to(device), Painter(transform).to(device)
    averaged.load_state_dict(painter.state_dict())
    return _Run(painter, averaged.requires_grad_(False), torch.optim.AdamW(painter.parameters(), _LEARNING_RATE))


def _step(run: _Run, images: list[Tensor], steps: int, seed: int) -> float:
    generator = torch.Generator().manual_seed(seed * 1_000_003 + run.step)
    for group in run.optimizer.param_groups:
        group["lr"] = _learning_rate(run.step, steps)
    loss = _loss(run.painter, images, generator)
    run.optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(run.painter.parameters(), 1.0)
    run.optimizer.step()
    run.step += 1
    kept = min(_AVERAGED, run.step / (run.step + 10))
    for average, parameter in zip(run.averaged.parameters(), run.painter.parameters(), strict=True):
        average.lerp_(parameter.detach(), 1 - kept)
    return loss.item()


def _learning_rate(step: int, steps: int) -> float:
    """Rises during the warm-up, then falls as a half cosine to a hundredth."""
    falling = 0.01 + 0.99 * (1 + math.cos(math.pi * step / steps)) / 2
    return _LEARNING_RATE * min((step + 1) / _WARM_UP, falling)


def _loss(painter: Painter, images: list[Tensor], generator: torch.Generator) -> Tensor:
    """Squared error of the predicted latents for one batch over the noise's spread: the layout, which is decided where
    noise is strong, then counts as much as the detail."""
    weights = torch.tensor([share for *_, share in _BATCHES])
    side, count, _ = _BATCHES[int(torch.multinomial(weights, 1, generator=generator))]
    pictures, prompts = _batch(images, side, count, generator)
    device = painter.device
    latent = painter.transform.encode(pictures.to(device))
    noise = torch.randn(latent.shape, generator=generator).to(device)
    kept = noise_schedule().alphas_cumprod
    timesteps = torch.randint(len(kept), (count,), generator=generator)
    signal, spread = (part[timesteps].sqrt().view(-1, 1, 1, 1).to(device) for part in (kept, 1 - kept))
    noisy = signal * latent + spread * noise
    with torch.autocast(device.type, torch.bfloat16):
        predicted = painter(noisy, timesteps.to(device), painter.context(prompts, (side, side)))
    return ((predicted.float() - latent).square() / spread.clamp(min=_LEAST_SPREAD)).mean()


def _batch(images: list[Tensor], side: int, count: int, generator: torch.Generator) -> tuple[Tensor, list[str]]:
    chosen = torch.randint(len(images), (count,), generator=generator).tolist()
    untold = torch.rand(count, generator=generator) < _UNTOLD
    pictures, prompts = [], []
    for index, empty in zip(chosen, untold.tolist(), strict=True):
        photograph = photographs.PHOTOGRAPHS[index]
        picture, mirrored = photographs.view(images[index], photograph.middle, side, generator)
        pictures.append(picture)
        prompts.append("" if empty else f"{photograph.prompt} {MIRRORED}" if mirrored else photograph.prompt)
    return torch.stack(pictures), prompts


def _cut(log: Path, step: int) -> None:
    """Drops the log's lines after `step`, which are about to be written anew."""
    rows = list(csv.reader(log.open(encoding="utf8"))) if log.exists() and step else [["step", "loss", "seconds"]]
    with log.open("w", encoding="utf8", newline="") as file:
        csv.writer(file).writerows(rows[:1] + [row for row in rows[1:] if int(row[0]) <= step])


def _log(log: Path, step: int, loss: float, seconds: float) -> None:
    print(f"step {step}: loss {loss:.4f}, {seconds:.0f} s", flush=True)
    with log.open("a", encoding="utf8", newline="") as file:
        csv.writer(file).writerow([step, f"{loss:.5f}", f"{seconds:.0f}"])


def _keep(run: _Run, output: Path, saved: Path) -> None:
    partial = saved.with_suffix(".partial")
    torch.save(run.state(), partial)
    partial.replace(saved)
    save(run.averaged, output)


if __name__ == "__main__":
    main()
