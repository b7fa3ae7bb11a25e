"""Benchmarks of speed and fidelity, with their results.

speed        how long a UNet call takes with each method, and how much memory it needs
fidelity     how close images stay to the dense ones
pipeline     checkpoints of Stable Diffusion, which speed and fidelity are measured with, too
tiny         the embedded model, which fidelity is measured with: a small latent diffusion model and its weights
results      the results of the published runs
demo         one image, dense and with ToDo, side by side

`python -m benchmarks` runs from a checkout, with the packages that `make demo` installs. Nothing in `todo` imports it.
"""
