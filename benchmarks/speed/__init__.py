"""How long a UNet call takes with each method, and how much memory it needs. The UNets are those of SD1.5, SD2 and SDXL
with random weights, since time does not depend on the weights."""
