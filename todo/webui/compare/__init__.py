"""Compare: generates the same images again without ToDo or with neighbouring settings, and shows how they differ.

Each further run is a complete generation by the host. It starts after every script has finished with the first run,
from a copy of `p` that was made when the generation began, with the random state of that moment. The runs therefore do
not influence each other: the images with the page's settings are the same as without comparing, and what is complete
is kept, however a later run ends.

What is made is appended to the images that the generation returns. So nothing is compared unless the page or the API
asked for a single generation: a script, another extension or a batch would take the further images for its own.

The figures and sheets (column, fidelity, drawing, pair, choice) know no host.
"""
