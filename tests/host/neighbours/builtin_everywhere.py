"""Features that every host has and that are turned on in the same way on each."""

from __future__ import annotations

from tests.host.neighbours.neighbour import Neighbour

NEIGHBOURS = [
    Neighbour("batches", "built in", request={"batch_size": 2, "n_iter": 2}),
]
