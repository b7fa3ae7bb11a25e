"""`python -m docs.generate`, or `make docs`: writes everything that is generated."""

from __future__ import annotations

from benchmarks.fidelity import plot as fidelity_plot
from benchmarks.speed import plot as speed_plot
from docs.generate import compatibility, fidelity, parts, speed
from docs.generate.matrix.document import generate


def main() -> None:
    parts.write_all()
    compatibility.DOCUMENT.write_text(generate(), encoding="utf8")
    speed_plot.save(speed.published(), speed.RESULTS / "sd1-cpu.png")
    fidelity_plot.save(fidelity.published(), speed.RESULTS / "fidelity.png")


if __name__ == "__main__":
    main()
