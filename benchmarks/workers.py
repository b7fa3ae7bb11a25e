"""Jobs spread over processes. They end at once when the command is interrupted, and never outlive it, whatever ends
it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import connection
from typing import Any

Job = tuple[Callable[..., Any], tuple[Any, ...]]
"""A function of the module level, and its arguments."""


class WorkerError(RuntimeError):
    """A worker ended without an answer, for want of memory, say; or where in a worker an error arose."""


def run(jobs: Sequence[Job], workers: int, prepare: Callable[[], None]) -> Iterator[tuple[int, Any]]:
    """The number of each job and what it returned, in the order in which they end.

    Args:
        prepare: what every worker does first.

    Raises:
        Exception: the first that a job raises; it ends the others.
        WorkerError: a worker ended without an answer.
    """
    waiting = list(enumerate(jobs))[::-1]
    with _started(min(workers, len(jobs)), prepare) as pipes:
        busy = {pipe: _hand(pipe, waiting) for pipe in pipes}
        while busy:
            for pipe in connection.wait(list(busy)):
                assert isinstance(pipe, connection.Connection)
                number = busy.pop(pipe)
                yield number, _answer(pipe)
                if waiting:
                    busy[pipe] = _hand(pipe, waiting)


def _hand(pipe: Any, waiting: list[tuple[int, Job]]) -> int:
    """Gives the next job to a worker, and returns its number."""
    number, job = waiting.pop()
    try:
        pipe.send(job)
    except OSError:
        raise _ended() from None
    return number


def _answer(pipe: Any) -> Any:
    try:
        value, error, where = pipe.recv()
    except (EOFError, OSError):
        raise _ended() from None
    if error:
        raise error from WorkerError(where)
    return value


def _ended() -> WorkerError:
    return WorkerError("a worker process ended without an answer; was there enough memory?")


@contextmanager
def _started(count: int, prepare: Callable[[], None]) -> Iterator[list[Any]]:
    """Our ends of the pipes to so many workers, which are ended with the block."""
    context = multiprocessing.get_context("spawn")
    pipes: list[Any] = []
    processes = []
    try:
        with _interrupts_ignored():  # which the workers inherit: Ctrl-C in a terminal reaches them, too
            for _ in range(count):
                ours, theirs = context.Pipe()
                process = context.Process(target=_work, args=(theirs, prepare), daemon=True)
                process.start()
                theirs.close()
                pipes.append(ours)
                processes.append(process)
        yield pipes
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _work(pipe: Any, prepare: Callable[[], None]) -> None:
    """A worker's life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    prepare()
    while True:
        function, arguments = pipe.recv()
        try:
            pipe.send((function(*arguments), None, ""))
        except Exception as error:
            pipe.send((None, error, f"in a worker\n{traceback.format_exc()}"))


def _end_with_parent() -> None:
    """However the parent ends: nobody waits for the answer any more."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
