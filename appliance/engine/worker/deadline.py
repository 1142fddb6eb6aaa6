"""An end for a foreign program that runs in our thread: a template is one, and can loop for ever.

A thread can not be stopped from outside; but an exception can be raised in it, between two of its steps
(`PyThreadState_SetAsyncExc`). One watcher does that, for one run at a time: prompts are built one by one.
What a single step takes is bounded where steps are made (`templates`), as nothing interrupts one.

The thread that may be struck takes plain locks only: those are taken in one step. A condition is not, and
would stay locked where the strike comes in the middle of it.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

# It strikes again after so long: what is raised in a callback of the interpreter is ignored there, and where
# most of the time goes into collecting garbage, the end of a collection is where nearly every strike hits.
_AGAIN_SECONDS: Final = 0.001


class TooSlowError(BaseException):
    """The time is over. No `Exception`: what runs may catch those."""


@dataclass(slots=True)
class _Run:
    thread_id: int
    ends: float  # on the monotonic clock
    was_struck: bool = False


class Deadline:
    """Owner of the watcher's thread, which lives as long as the process. Threads take turns."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._lock = threading.Lock()  # of `_run`, between the watcher and the one who ends
        self._run: _Run | None = None
        self._bell = threading.Lock()  # held until there is something to watch
        self._bell.acquire()
        self._watcher: threading.Thread | None = None

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """TooSlowError in here, where it takes longer."""
        with self._turn:
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, name="deadline", daemon=True)
                self._watcher.start()
            run = _Run(threading.get_ident(), time.monotonic() + seconds)
            try:
                self._run = run
                if self._bell.locked():
                    self._bell.release()
                yield
            finally:
                self._stop(run)

    def _stop(self, run: _Run) -> None:
        """Nothing strikes any more behind this.

        One that was raised and has not struck yet is let strike here, in the place of another: taken back, it
        would leave the interpreter looking for it at every step (CPython 3.11: for ever, where it is traced).
        """
        is_last = False
        while True:
            try:
                with self._lock:
                    self._run = None
                if not run.was_struck:
                    return
                is_last = True
                _raise_in(run.thread_id, TooSlowError)
                while True:
                    pass
            except TooSlowError:
                if is_last:
                    return

    def _watch(self) -> None:
        while True:
            run = self._run
            if run is None:
                self._bell.acquire()
                continue
            left = run.ends - time.monotonic()
            if left > 0:
                self._bell.acquire(timeout=left)
                continue
            with self._lock:
                if self._run is run:
                    run.ends = time.monotonic() + _AGAIN_SECONDS
                    run.was_struck = True
                    _raise_in(run.thread_id, TooSlowError)


def _raise_in(thread_id: int, error: type[BaseException]) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), ctypes.py_object(error))
