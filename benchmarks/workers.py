"""Distributes jobs over processes. The processes end at once when the command is interrupted, and never outlive it,
even if it is killed."""

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
"""A module-level function, which can be pickled, and its arguments."""


class WorkerError(RuntimeError):
    """A worker ended without an answer, perhaps for lack of memory; or, as the cause of an error that a job raised, the
    traceback in the worker."""


def run(jobs: Sequence[Job], workers: int, prepare: Callable[[], None]) -> Iterator[tuple[int, Any]]:
    """Runs jobs in up to `workers` processes.

    Args:
        prepare: called once in every worker, before its first job.

    Yields:
        The index of each job and its result, as jobs finish.

    Raises:
        Exception: the first that a job raises; the other jobs are stopped.
        WorkerError: a worker ended without an answer.
    """
    waiting = list(enumerate(jobs))[::-1]
    with _started(min(workers, len(jobs)), prepare) as pipes:
        busy = {pipe: _send_next(pipe, waiting) for pipe in pipes}
        while busy:
            for pipe in connection.wait(list(busy)):
                assert isinstance(pipe, connection.Connection)
                index = busy.pop(pipe)
                yield index, _receive(pipe)
                if waiting:
                    busy[pipe] = _send_next(pipe, waiting)


def _send_next(pipe: Any, waiting: list[tuple[int, Job]]) -> int:
    """Sends the next job to a worker and returns its index."""
    index, job = waiting.pop()
    try:
        pipe.send(job)
    except OSError:
        raise _worker_lost() from None
    return index


def _receive(pipe: Any) -> Any:
    try:
        value, error, traceback_text = pipe.recv()
    except (EOFError, OSError):
        raise _worker_lost() from None
    if error:
        raise error from WorkerError(traceback_text)
    return value


def _worker_lost() -> WorkerError:
    return WorkerError("a worker process ended without an answer; was there enough memory?")


@contextmanager
def _started(count: int, prepare: Callable[[], None]) -> Iterator[list[Any]]:
    """Starts `count` workers and yields the parent's ends of their pipes. The workers end with the block."""
    context = multiprocessing.get_context("spawn")
    pipes: list[Any] = []
    processes = []
    try:
        with _interrupts_ignored():  # inherited by the workers, since Ctrl-C in a terminal reaches them, too
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
    """Runs in a worker: answers each job until the process is terminated."""
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
    """Ends this worker when the parent has ended, even if it was killed and could not terminate its workers."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
