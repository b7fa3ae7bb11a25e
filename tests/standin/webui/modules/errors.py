"""Prints exceptions raised by scripts. The generation continues."""

import sys
import traceback

exception_records = []


def report(message, *, exc_info=False):
    exception_records.append((message, sys.exc_info()[1]))
    print(f"*** {message}", file=sys.stderr)
    if exc_info:
        traceback.print_exc()
