"""The embedded model: a small latent diffusion model of ldm's architecture, trained on eight photographs. The demo and
the fidelity measurements use it. README.md is its model card, weights.safetensors its weights."""
