"""Checkpoints of Stable Diffusion as diffusers' pipelines: loading them, and making images with them."""
