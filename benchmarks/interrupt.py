"""Ctrl-C and SIGTERM end a command within two seconds, with one line that says what was saved.

Python calls signal handlers only between operations, and a single torch operation on a large image can take a minute.
So a thread waits for the signal, too, and ends the process if the command has not ended by itself. Nothing is lost,
since commands write results as soon as they are complete.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

STATUS = 130
"""The exit status of an interrupted command, by the shells' convention."""

_PATIENCE = 0.5
"""Seconds that the command has to end by itself."""


class Kept:
    """What an interrupted command has saved so far. Commands update `text` as they write, and it is printed once."""

    def __init__(self) -> None:
        self.text = "nothing was written"
        self._printed = threading.Lock()

    def print_once(self) -> None:
        """Prints `text`. Further calls, from the command or the watching thread, do nothing."""
        if self._printed.acquire(blocking=False):
            print(f"\nInterrupted: {self.text}.", file=sys.stderr, flush=True)


kept = Kept()


def run(main: Callable[[], int]) -> int:
    """Runs the command of this process and returns its exit status."""
    with _watched_signals():
        try:
            return main()
        except KeyboardInterrupt:
            kept.print_once()
            return STATUS
        except ModuleNotFoundError as error:
            print(f"The package {error.name!r} is missing; `make demo` installs it", file=sys.stderr)
            return 1


@contextmanager
def _watched_signals() -> Iterator[None]:
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, _interrupt)
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_end_after_signal, args=(receiver,), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(-1)
        sender.close()


def _interrupt(number: int, frame: Any) -> None:
    """Interrupts once. A second signal must not interrupt the clean-up."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _end_after_signal(receiver: socket.socket) -> None:
    """Ends the process `_PATIENCE` seconds after a signal; returns when the command ends without one."""
    for number in iter(lambda: receiver.recv(1), b""):
        if number[0] in (signal.SIGINT, signal.SIGTERM):
            time.sleep(_PATIENCE)
            kept.print_once()
            os._exit(STATUS)
