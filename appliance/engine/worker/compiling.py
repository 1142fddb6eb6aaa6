"""Requests whose grammar is compiled before they are queued: beside the intake thread, not on it.

Whoever asks without a schema, or with one that was compiled before, passes by. The others wait for one
thread, tenants in turn, so that one tenant's schemas hold up another's by one at most.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from appliance.engine.messages import Failed, Finished, Rejected, ToGateway
from appliance.engine.worker.prepare import Preparer, Read
from appliance.engine.worker.sequence import Sequence


class Compiling:
    """Those who wait. `add` and `abort` are of the intake thread, `run` is the thread that compiles.

    `deliver` takes whole sequences, `say` what is said to the gateway; both from either thread.
    """

    def __init__(
        self,
        preparer: Preparer,
        *,
        max_waiting: int,
        deliver: Callable[[Sequence], None],
        say: Callable[[ToGateway], None],
    ) -> None:
        self._preparer = preparer
        self._max_waiting = max_waiting
        self._deliver = deliver
        self._say = say
        self._waiting: dict[str, Read] = {}  # in the order of their arrival, with the one at work
        self._changed = threading.Condition()

    def add(self, read: Read) -> None:
        """Queue a request, or fail it where the queue is full."""
        request_id = read.sequence.request_id
        with self._changed:
            if len(self._waiting) < self._max_waiting:
                self._waiting[request_id] = read
                self._changed.notify()
                return
        self._say(Failed(request_id, "overloaded", "the model's queue is full"))

    def abort(self, request_id: str) -> bool:
        """The caller has gone. False where nobody of that name waits here."""
        with self._changed:
            read = self._waiting.pop(request_id, None)
        if read is None:
            return False
        self._say(Finished(request_id, "aborted", read.sequence.num_prompt, 0, 0, 0, 0, 0))
        return True

    def run(self) -> None:
        """For ever."""
        last = ""
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                read = self._next(last)
            last = read.sequence.tenant
            self.compile(read)

    def compile(self, read: Read) -> None:
        """One of them; who left meanwhile has had an answer."""
        finished = self._preparer.finish(read)
        with self._changed:
            if self._waiting.pop(read.sequence.request_id, None) is None:
                return
            # Under the lock: an abort that comes now finds the sequence where it is delivered to.
            if isinstance(finished, Sequence):
                self._deliver(finished)
        if isinstance(finished, Rejected):
            self._say(finished)

    def _next(self, last: str) -> Read:
        """The first of another tenant than the last one, else the first."""
        waiting = self._waiting.values()
        return next((each for each in waiting if each.sequence.tenant != last), next(iter(waiting)))
