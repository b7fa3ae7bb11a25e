"""`python -m benchmarks.tiny train | sheet`: trains the model, and makes the images of its card."""

from __future__ import annotations

import sys

from benchmarks import interrupt


def _main() -> int:
    # Not at the top: an interrupt is answered while torch is being imported, too.
    from benchmarks.tiny import commands

    return commands.main()


if __name__ == "__main__":
    sys.exit(interrupt.run(_main))
