"""The embedded model: a small latent diffusion model of ldm's architecture, trained on eight photographs, with which
the demonstration draws and fidelity is measured. Its weights and model card: benchmarks/painter/."""
