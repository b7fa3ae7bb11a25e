"""Stable Diffusion's noise schedule."""

from __future__ import annotations

from typing import Any

BETAS: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
"""The arguments for diffusers' schedulers. The square roots of the betas rise linearly over 1000 timesteps."""
