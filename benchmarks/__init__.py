"""What is measured: speed, memory and fidelity, with the code beside its results.

speed        how long a UNet call takes, and where its time goes; how much memory it needs
fidelity     how near images stay to the dense ones
tiny         the embedded model that fidelity is measured with: a small latent diffusion model, its training and weights
results      what the published runs found
demo         one image, dense and with ToDo, side by side

`python -m benchmarks` runs from a checkout, with the packages that `make demo` installs. Nothing in `todo` imports it.
"""
