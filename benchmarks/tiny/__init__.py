"""The embedded model: a small latent diffusion model with ldm's architecture, trained on eight photographs. The demo
and the fidelity benchmarks use it. README.md is its model card, weights.safetensors holds its weights."""
