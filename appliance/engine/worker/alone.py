"""Reproducible mode: one request after the other, in a context of its own.

What a batch holds besides, which cells a prefix lies in, how a prompt is cut into chunks and how many
threads compute: each of them changes the rounding of logits, and at a near tie the answer. Here all of
it is fixed by a `Setup`, which is on the record: nobody else is in the context, no prefix is shared,
prompts are read in chunks of `n_batch`, and nothing is guessed ahead. So the same request in the same
setup gives the same logits, bit by bit, on the same kind of machine.

Its steps take turns with those of the shared context.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from appliance.clock import Clock
from appliance.engine.messages import Delta, Failed, Finished, Setup, Started, ToGateway
from appliance.engine.worker.backend import Backend, BatchItem, DecodeStatus, Lane
from appliance.engine.worker.grammar import GrammarExhausted
from appliance.engine.worker.sequence import Sequence, Status, finished
from appliance.engine.worker.writer import SCHEMA_TOO_COMPLEX, Writer


class Alone:
    """The queue of reproducible requests, and the one that runs. Owner: the step thread."""

    def __init__(
        self,
        backend: Backend,
        *,
        max_waiting: int,
        clock: Clock,
        emit: Callable[[list[ToGateway]], None],
    ) -> None:
        self._backend = backend
        self._max_waiting = max_waiting
        self._clock = clock
        self._emit = emit
        self._waiting: deque[Sequence] = deque()
        self._running: Sequence | None = None
        self._writer: Writer | None = None
        self._digests = bytearray()
        self._lane: Lane | None = None
        self._setup: Setup | None = None
        self._adapter = ""  # of the lane

    @property
    def has_work(self) -> bool:
        return bool(self._waiting) or self._running is not None

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        return int(self._running is not None)

    def add(self, sequence: Sequence) -> None:
        """Queue a request and say Started, or fail it where the queue is full."""
        sequence.arrived_us = self._clock.monotonic_us()
        if len(self._waiting) >= self._max_waiting:
            self._emit([Failed(sequence.request_id, "overloaded", "the model's queue is full")])
            return
        self._waiting.append(sequence)
        self._emit([Started(sequence.request_id, sequence.num_prompt, sequence.begins_thinking)])

    def abort(self, request_id: str) -> None:
        """The caller has gone."""
        for sequence in self._waiting:
            if sequence.request_id == request_id:
                self._waiting.remove(sequence)
                self._emit([finished(sequence, "aborted", self._clock.monotonic_us())])
                return
        if self._running is not None and self._running.request_id == request_id:
            self._end("aborted")

    def step(self) -> None:
        """A chunk of the prompt, or one token."""
        sequence = self._running or self._admit()
        if sequence is None or self._lane is None:
            return
        begin = sequence.num_computed
        tokens = sequence.known(begin, self._chunk_tokens)
        ends = begin + len(tokens) == sequence.num_tokens
        last = len(tokens) - 1
        batch = [
            BatchItem(token, begin + at, 0, wants_logits=ends and at == last)
            for at, token in enumerate(tokens)
        ]
        if self._lane.decode(batch) is DecodeStatus.NO_ROOM:
            raise RuntimeError("a context of its own has no room for the one sequence in it")
        sequence.num_computed += len(tokens)
        if ends:
            self._advance(sequence, self._lane, last)

    @property
    def _chunk_tokens(self) -> int:
        return self._setup.n_batch if self._setup else 1

    def _admit(self) -> Sequence | None:
        sequence = self._waiting.popleft()
        if sequence.setup is None:
            raise RuntimeError("a request without a setup is not reproducible")
        if (self._setup, self._adapter) != (sequence.setup, sequence.adapter) or self._lane is None:
            try:
                self._open(sequence.setup, sequence.adapter)
            except Exception as error:  # the library's refusal: this request's failure, nobody else's
                self._lane = self._setup = None
                self._emit([Failed(sequence.request_id, "out_of_memory", str(error))])
                return None
        sequence.seq_id = 0
        sequence.status = Status.PREFILL
        sequence.started_us = self._clock.monotonic_us()
        self._digests.clear()
        self._running = sequence
        return sequence

    def _open(self, setup: Setup, adapter: str) -> None:
        if self._lane is not None:
            self._lane.close()
            self._lane = None
        self._lane = self._backend.open_lane(setup, adapter)
        self._setup, self._adapter = setup, adapter

    def _advance(self, sequence: Sequence, lane: Lane, row: int) -> None:
        if self._writer is None:
            self._writer = Writer(self._backend, sequence, lane.new_sampler(sequence.sampling))
            sequence.decoding_us = self._clock.monotonic_us()
            sequence.status = Status.DECODE
        self._digests += lane.digest(row)
        try:
            said = self._writer.say(self._writer.choose(row, ()))
        except GrammarExhausted as error:
            self._free()
            self._emit([Failed(sequence.request_id, SCHEMA_TOO_COMPLEX, str(error))])
            return
        if said.text or said.num_tokens:
            self._emit([Delta(sequence.request_id, said.text, said.num_tokens, said.logprobs)])
        if said.reason is not None:
            self._end(said.reason)

    def _end(self, reason: str) -> None:
        if self._running is None:
            return
        end: Finished = finished(
            self._running, reason, self._clock.monotonic_us(), digests=bytes(self._digests)
        )
        self._free()
        self._emit([end])

    def _free(self) -> None:
        """Nothing of the running request stays."""
        self._running = None
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._lane is not None:
            self._lane.remove(0)
