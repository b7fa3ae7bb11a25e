"""Compare: generates the same images again without ToDo or with neighbouring settings, and shows how they differ.

Each further run is a complete generation by the host. It starts after every script has finished with the first run,
from a copy of `p` that was made before any script changed it, with the random state of that moment. The runs therefore
do not influence each other: the images with the page's settings are the same as without comparing, and what is complete
is kept, however a later run ends.
"""

from .events import begin_batch, end_batch, prepare, step, step_done

__all__ = ["begin_batch", "end_batch", "prepare", "step", "step_done"]
