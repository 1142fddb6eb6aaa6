"""`EmbeddingCore`: jobs of many inputs, one bounded batch at a time, between the steps of the answers.

Its context is made at the first job: a box that only chats pays nothing for it. Owner of everything:
the step thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from appliance.clock import Clock
from appliance.engine.messages import Embedded, Failed, Ranked, Rejected, ToGateway
from appliance.engine.worker import vectors
from appliance.engine.worker.backend import Backend
from appliance.engine.worker.batcher import Batcher
from appliance.engine.worker.budget import Crowd, StepBudget
from appliance.engine.worker.embedder import CanNotEmbed, ComputeFailed, Embedder, Vector


@dataclass(slots=True, eq=False)
class Job:
    """One request: inputs that fit, and what their vectors are for. Times in microseconds."""

    request_id: str
    inputs: Sequence[Sequence[int]] = field(repr=False)
    answers: Literal["vectors", "rank", "cosine"] = "vectors"
    arrived_us: int = 0
    started_us: int = 0
    found: dict[int, Vector] = field(default_factory=dict, repr=False)


class EmbeddingCore:
    """Vectors of one model. `emit` takes messages, in order."""

    def __init__(
        self,
        backend: Backend,
        *,
        max_waiting: int,
        step_target_us: int,
        clock: Clock,
        emit: Callable[[list[ToGateway]], None],
    ) -> None:
        self._backend = backend
        self._max_waiting = max_waiting
        self._step_target_us = step_target_us
        self._clock = clock
        self._emit = emit
        self._jobs: dict[str, Job] = {}
        self._made: _Made | None = None

    @property
    def has_work(self) -> bool:
        return bool(self._jobs)

    def prepare(self) -> None:
        """Make the context that the first job would make. CanNotEmbed."""
        self._make()

    def add(self, job: Job) -> None:
        """Queue a job, or say at once why it can not be."""
        if len(self._jobs) >= self._max_waiting:
            self._emit([Failed(job.request_id, "overloaded", "the model's queue is full")])
            return
        try:
            made = self._make()
        except CanNotEmbed as error:
            answer = Failed if error.code == "out_of_memory" else Rejected
            self._emit([answer(job.request_id, error.code, error.message)])
            return
        job.arrived_us = self._clock.monotonic_us()
        self._jobs[job.request_id] = job
        made.batcher.add(job.request_id, job.inputs)

    def abort(self, request_id: str) -> None:
        """The caller has gone. A job that is over already needs nothing."""
        if request_id in self._jobs:
            self._drop(request_id)
            self._emit([Failed(request_id, "aborted", "the caller has gone")])

    def step(self, *, is_shared: bool) -> None:
        """One batch. `is_shared`: somebody's answer is being written, so keep to the step's target."""
        made = self._made
        if made is None or not self._jobs:
            return
        batch = made.batcher.next(made.budget.tokens(Crowd(num_writing=int(is_shared))))
        began_us = self._clock.monotonic_us()
        for each in batch:
            job = self._jobs[each.job]
            job.started_us = job.started_us or began_us
        try:
            found = made.embedder.compute(batch)
        except ComputeFailed:
            self._give_up()
            return
        size = sum(len(each.tokens) for each in batch)
        took_us = self._clock.monotonic_us() - began_us
        made.budget.observe(num_tokens=size, num_prefill=size, took_us=took_us)
        for each, vector in zip(batch, found, strict=True):
            if vector is not None:
                self._jobs[each.job].found[each.index] = vector
        if over := [job for job in self._jobs.values() if len(job.found) == len(job.inputs)]:
            self._emit([self._end(job) for job in over])

    def _make(self) -> _Made:
        if self._made is None:
            embedder = self._backend.new_embedder()
            self._made = _Made(
                embedder,
                Batcher(n_batch=embedder.n_batch, n_seq_max=embedder.n_seq_max, splits=embedder.splits),
                StepBudget(target_us=self._step_target_us, max_tokens=embedder.n_batch),
            )
        return self._made

    def _drop(self, request_id: str) -> None:
        del self._jobs[request_id]
        if self._made is not None and (seq_id := self._made.batcher.drop(request_id)) is not None:
            self._made.embedder.forget(seq_id)

    def _give_up(self) -> None:
        """The context can not be relied on any more: whoever waits for it is told; the next job gets a
        new one. The answers being written have a context of their own and go on.
        """
        failed: list[ToGateway] = [
            Failed(each, "out_of_memory", "the batch could not be computed; is the memory short?")
            for each in self._jobs
        ]
        self._jobs.clear()
        if self._made is not None:
            self._made.embedder.close()
            self._made = None
        self._emit(failed)

    def _end(self, job: Job) -> ToGateway:
        self._drop(job.request_id)
        raw = [job.found[at] for at in range(len(job.inputs))]
        prompt_tokens = sum(len(each) for each in job.inputs)
        queue_us = job.started_us - job.arrived_us
        compute_us = self._clock.monotonic_us() - job.started_us
        if job.answers == "rank":
            scores = tuple(float(each[0]) for each in raw)
            return Ranked(job.request_id, scores, "rank", prompt_tokens, queue_us, compute_us)
        try:
            units = [vectors.unit(each) for each in raw]
        except ValueError:
            return Failed(job.request_id, "engine_failed", "the model computed no numbers")
        if job.answers == "cosine":
            scores = vectors.cosines(units[0], units[1:])
            return Ranked(job.request_id, scores, "cosine", prompt_tokens, queue_us, compute_us)
        n_embd = len(units[0])
        return Embedded(job.request_id, vectors.pack(units), n_embd, prompt_tokens, queue_us, compute_us)


@dataclass(frozen=True, slots=True)
class _Made:
    """What exists from the first job on."""

    embedder: Embedder
    batcher: Batcher
    budget: StepBudget
