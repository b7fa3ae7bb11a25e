"""How long a UNet call takes by each method, where its time goes, how it grows with the image, and what memory it
needs. The UNets are SD1.5's, SD2's and SDXL's with random weights: time does not depend on what the weights are."""
