"""Ctrl-C and SIGTERM end a command within two seconds, with one line that says what was kept.

Python runs its own handlers between operations, and one operation of torch's on a large image can take a minute. So a
thread waits for the signal, too, and ends the process if the command has not ended by itself. Commands write what is
complete as they go, so nothing is lost by that.
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
"""The exit status of an interrupted command, as shells have it."""

_PATIENCE = 0.5
"""Seconds in which the command may end by itself."""


class Kept:
    """What an interrupted command has kept, in words. Commands set `text` as they write."""

    def __init__(self) -> None:
        self.text = "nothing was written"
        self._once = threading.Lock()

    def say(self) -> None:
        """Says it, the first time it is called."""
        if self._once.acquire(blocking=False):
            print(f"\nInterrupted: {self.text}.", file=sys.stderr, flush=True)


kept = Kept()


def run(main: Callable[[], int]) -> int:
    """Runs the process's one command; returns its exit status."""
    with _signals_watched():
        try:
            return main()
        except KeyboardInterrupt:
            kept.say()
            return STATUS
        except ModuleNotFoundError as error:
            print(f"The package {error.name!r} is missing; `make demo` installs it", file=sys.stderr)
            return 1


@contextmanager
def _signals_watched() -> Iterator[None]:
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, _interrupt)
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_end, args=(receiver,), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(-1)
        sender.close()


def _interrupt(number: int, frame: Any) -> None:
    """Once: what follows cleans up, and a second signal must not break that off."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _end(receiver: socket.socket) -> None:
    """Ends the process some time after a signal; returns when the command has ended without one."""
    for received in iter(lambda: receiver.recv(1), b""):
        if received[0] in (signal.SIGINT, signal.SIGTERM):
            time.sleep(_PATIENCE)
            kept.say()
            os._exit(STATUS)
