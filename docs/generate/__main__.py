"""`python -m docs.generate`, or `make docs`: writes all generated documents and plots."""

from __future__ import annotations

import sys

from benchmarks import interrupt


def _main() -> int:
    # Not at the top: an interrupt is answered while the packages are being imported, too.
    from docs.generate import everything

    return everything.write()


if __name__ == "__main__":
    sys.exit(interrupt.run(_main))
