"""`python -m benchmarks speed | memory | fidelity | study | demo`: runs the command, and ends it well on Ctrl-C."""

from __future__ import annotations

import sys

from benchmarks import interrupt


def _main() -> int:
    # Not at the top: an interrupt is answered while torch is being imported, too.
    from benchmarks import commands

    return commands.main()


if __name__ == "__main__":
    sys.exit(interrupt.run(_main))
