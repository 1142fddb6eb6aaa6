"""`EngineCore.step`: a step for each pool that has work, and a turn for whoever computes alone.

Owner of everything that runs: one thread. The core knows no sockets and no templates: sequences come
in, messages go out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from appliance.clock import Clock
from appliance.engine.messages import Failed, Stats, ToGateway
from appliance.engine.worker import routing
from appliance.engine.worker.alone import Alone
from appliance.engine.worker.backend import Backend
from appliance.engine.worker.budget import NOBODY
from appliance.engine.worker.sequence import Sequence
from appliance.engine.worker.speculation import AnswerMemory
from appliance.engine.worker.tally import Tally
from appliance.engine.worker.together import Limits, Together

STATS_EVERY_US = 1_000_000


class EngineCore:
    """Sequences of one model. `emit` takes messages, in order; `resident` knows this process's bytes."""

    def __init__(
        self,
        backend: Backend,
        limits: Limits,
        *,
        clock: Clock,
        emit: Callable[[list[ToGateway]], None],
        declared: Iterable[list[int]] = (),
        resident: Callable[[], int] = int,
    ) -> None:
        self._clock = clock
        self._emit = emit
        self._resident = resident
        self._max_waiting = limits.max_waiting
        self._tally = Tally()
        memory = AnswerMemory()
        shares = backend.model.can_share_prefixes
        prefixes = [np.array(tokens, np.int32) for tokens in declared] if shares else []
        self._shared = Together(
            backend,
            backend,
            limits,
            clock=clock,
            emit=emit,
            memory=memory,
            tally=self._tally,
            declared=prefixes,
        )
        self._apart: Together | None = None
        if backend.apart is not None:
            self._apart = Together(
                backend.apart, backend, limits, clock=clock, emit=emit, memory=memory, tally=self._tally
            )
        self._pools = [self._shared] if self._apart is None else [self._shared, self._apart]
        self._alone = Alone(backend, max_waiting=limits.max_waiting, clock=clock, emit=emit)
        self._stats_us = 0

    @property
    def has_work(self) -> bool:
        return any(each.has_work for each in self._pools) or self._alone.has_work

    def add(self, sequence: Sequence) -> None:
        """Queue a request where it belongs, or fail it where the queue is full."""
        if sequence.setup is not None:
            self._alone.add(sequence)
        elif self._apart is None:
            self._shared.add(sequence)
        elif sum(each.num_waiting for each in self._pools) >= self._max_waiting:
            self._emit([Failed(sequence.request_id, "overloaded", "the model's queue is full")])
        else:
            routing.choose(sequence, self._shared, self._apart).add(sequence)

    def abort(self, request_id: str) -> None:
        """The caller has gone. A request that is over already needs nothing."""
        for each in self._pools:
            each.abort(request_id)
        self._alone.abort(request_id)

    def step(self) -> None:
        """One forward pass for everybody, and a turn for whoever computes alone."""
        was_idle = not self.has_work  # the last one left instead of finishing
        shared, apart = self._shared, self._apart
        if shared.has_work:
            self._emit([*shared.step(apart.crowd if apart else NOBODY), *self._stats()])
        if apart is not None and apart.has_work:
            self._emit([*apart.step(shared.crowd), *self._stats()])
        if self._alone.has_work:
            self._alone.step()
            was_idle = not self.has_work
        if was_idle:  # the last picture shows nobody
            self._emit(self._stats())

    def _stats(self) -> list[ToGateway]:
        now_us = self._clock.monotonic_us()
        if now_us - self._stats_us < STATS_EVERY_US and self.has_work:
            return []
        self._stats_us = now_us
        pools, alone, tally = self._pools, self._alone, self._tally
        return [
            Stats(
                running=sum(each.num_running for each in pools) + alone.num_running,
                waiting=sum(each.num_waiting for each in pools) + alone.num_waiting,
                cells_used=sum(each.num_cells_used for each in pools),
                cells_cached=sum(each.num_cells_cached for each in pools),
                cells_spilled=sum(each.num_cells_spilled for each in pools),
                steps=tally.steps,
                step_us=tally.step_us,
                step_buckets=tuple(tally.step_buckets),
                prompt_tokens=tally.prompt_tokens,
                completion_tokens=tally.completion_tokens,
                cached_tokens=tally.cached_tokens,
                restored_tokens=tally.restored_tokens,
                drafted_tokens=tally.drafted_tokens,
                accepted_tokens=tally.accepted_tokens,
                resident_bytes=self._resident(),
            )
        ]
