"""`python -m benchmarks COMMAND`: runs a command, and ends it cleanly on Ctrl-C."""

from __future__ import annotations

import sys

from benchmarks import interrupt


def main() -> int:
    # Imported here, so that Ctrl-C is already handled during the slow import of torch.
    from benchmarks import commands

    return commands.main()


if __name__ == "__main__":
    sys.exit(interrupt.run(main))
