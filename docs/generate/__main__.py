"""`python -m docs.generate`, or `make docs`: writes all generated documents and plots."""

from __future__ import annotations

import sys

from benchmarks import interrupt


def main() -> int:
    """Returns the exit status: 1, with nothing written, if the present code would not reproduce a result."""
    # Not at the top: an interrupt is answered while the packages are being imported, too.
    from benchmarks import output
    from benchmarks.fidelity import plot as fidelity_plot
    from benchmarks.method import StaleError
    from benchmarks.speed import plot as speed_plot
    from docs.generate import RESULTS, compatibility, fidelity, parts, speed
    from docs.generate.matrix.document import generate

    interrupt.kept.text = "every document is either the old or the new one; run it again to update all"
    try:
        parts.write_all()
    except StaleError as stale:
        print(stale, file=sys.stderr)
        return 1
    output.write_text(generate(), compatibility.DOCUMENT)
    for name in speed.GPU.values():
        speed_plot.save(speed.published(name), RESULTS / f"{name}.png")
    fidelity_plot.save(fidelity.published(), RESULTS / "fidelity.png")
    return 0


if __name__ == "__main__":
    sys.exit(interrupt.run(main))
