"""`EngineCore.step`: schedule → decode → sample → update → emit. Owner of everything: one thread.

The core knows no sockets and no templates: sequences come in, messages go out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from appliance.clock import Clock
from appliance.engine.messages import Delta, Failed, Finished, Started, Stats, ToGateway
from appliance.engine.worker.backend import (
    MAX_SEQUENCE_IDS,
    Backend,
    BatchItem,
    DecodeStatus,
    Sampler,
)
from appliance.engine.worker.budget import StepBudget
from appliance.engine.worker.detokenizer import Detokenizer
from appliance.engine.worker.scheduler import Action, Chunk, Copy, Free, Scheduler
from appliance.engine.worker.sequence import Sequence, Status

STATS_EVERY_US = 1_000_000


@dataclass(slots=True)
class _Writing:
    """What a running sequence needs to turn logits into text."""

    sampler: Sampler
    detokenizer: Detokenizer


class EngineCore:
    """Sequences of one model. `emit` takes each step's messages, in order."""

    def __init__(
        self,
        backend: Backend,
        *,
        max_waiting: int,
        step_target_us: int,
        prefix_cache_cells: int,
        clock: Clock,
        emit: Callable[[list[ToGateway]], None],
    ) -> None:
        self._backend = backend
        self._clock = clock
        self._emit = emit
        shares = backend.model.can_share_prefixes
        self._scheduler = Scheduler(
            num_cells=backend.model.n_ctx,
            n_seq_max=backend.model.n_seq_max,
            budget=backend.model.n_batch,
            max_waiting=max_waiting,
            cache_tags=range(backend.model.n_seq_max, MAX_SEQUENCE_IDS) if shares else (),
            max_cached_cells=prefix_cache_cells if shares else 0,
        )
        self._budget = StepBudget(target_us=step_target_us, max_tokens=backend.model.n_batch)
        self._sequences: dict[str, Sequence] = {}
        self._writing: dict[str, _Writing] = {}
        self._num_steps = 0
        self._num_prompt_tokens = 0
        self._num_completion_tokens = 0
        self._num_cached_tokens = 0
        self._stats_us = 0

    @property
    def has_work(self) -> bool:
        return self._scheduler.has_work

    def add(self, sequence: Sequence) -> None:
        """Queue a request and say Started, or fail it where the queue is full.

        Started is a promise of an answer, and the gateway's status line hangs on it: it is given
        only here, where the queue is known.
        """
        sequence.arrived_us = self._clock.monotonic_us()
        if not self._scheduler.add(sequence):
            self._emit([Failed(sequence.request_id, "overloaded", "the model's queue is full")])
            return
        self._sequences[sequence.request_id] = sequence
        self._emit([Started(sequence.request_id, sequence.num_prompt)])

    def abort(self, request_id: str) -> None:
        """The caller has gone. A request that is over already needs nothing."""
        sequence = self._sequences.get(request_id)
        if sequence is not None:
            self._emit([self._finish(sequence, "aborted")])

    def step(self) -> None:
        """One forward pass for everybody."""
        step = self._scheduler.schedule(self._budget.tokens(num_decoding=self._scheduler.num_decoding))
        self._act(step.actions)
        if not step.chunks:  # whoever was left has gone
            self._emit(self._stats())
            return
        batch, rows = self._batch(step.chunks)
        began_us = self._clock.monotonic_us()
        if self._backend.decode(batch) is DecodeStatus.NO_ROOM:
            # The library changed nothing (llama.h, llama_decode): make room, and try again.
            self._act(self._scheduler.give_back(step.chunks))
            return
        self._learn(step.chunks, self._clock.monotonic_us() - began_us)
        messages: list[ToGateway] = []
        for chunk in step.chunks:
            chunk.sequence.num_computed += chunk.num_tokens
        for request_id, row in rows.items():
            messages += self._advance(self._sequences[request_id], row)
        self._num_steps += 1
        self._emit([*messages, *self._stats()])

    def _batch(self, chunks: tuple[Chunk, ...]) -> tuple[list[BatchItem], dict[str, int]]:
        """The tokens of a step, and for each sequence that is sampled its row."""
        batch: list[BatchItem] = []
        rows: dict[str, int] = {}
        for chunk in chunks:
            sequence, begin = chunk.sequence, chunk.sequence.num_computed
            if sequence.started_us == 0:
                sequence.started_us = self._clock.monotonic_us()
                self._num_cached_tokens += sequence.num_cached
            tokens = sequence.known(begin, chunk.num_tokens)
            last = len(tokens) - 1
            ends = chunk.ends_input
            for offset, token in enumerate(tokens):
                wants = ends and offset == last
                batch.append(BatchItem(token, begin + offset, sequence.seq_id, wants))
            if ends:
                rows[sequence.request_id] = len(batch) - 1
            if sequence.status is Status.PREFILL:
                self._num_prompt_tokens += len(tokens)
        return batch, rows

    def _advance(self, sequence: Sequence, row: int) -> list[ToGateway]:
        """Sample one sequence, and say what can be said."""
        writing = self._writing.get(sequence.request_id)
        if writing is None:
            writing = self._writing[sequence.request_id] = _Writing(
                self._backend.new_sampler(sequence.sampling), Detokenizer(sequence.sampling.stop)
            )
            sequence.decoding_us = self._clock.monotonic_us()
        sequence.status = Status.DECODE
        token = writing.sampler.sample(row)
        if self._backend.is_end(token):
            return self._end(sequence, writing, "stop", num_tokens=0)
        sequence.output.append(token)
        self._num_completion_tokens += 1
        text = writing.detokenizer.add(self._backend.piece(token))
        if writing.detokenizer.is_stopped:
            return self._end(sequence, writing, "stop", num_tokens=1, text=text)
        if len(sequence.output) >= sequence.max_tokens:
            return self._end(sequence, writing, "length", num_tokens=1, text=text)
        return [Delta(sequence.request_id, text, 1)]

    def _end(
        self, sequence: Sequence, writing: _Writing, reason: str, *, num_tokens: int, text: str = ""
    ) -> list[ToGateway]:
        text += writing.detokenizer.finish()
        messages: list[ToGateway] = (
            [Delta(sequence.request_id, text, num_tokens)] if text or num_tokens else []
        )
        return [*messages, self._finish(sequence, reason)]

    def _finish(self, sequence: Sequence, reason: str) -> Finished:
        """Free everything that the sequence held; its one terminal message."""
        self._drop(sequence)
        now_us = self._clock.monotonic_us()
        started = sequence.started_us or now_us
        decoding = sequence.decoding_us or now_us
        return Finished(
            request_id=sequence.request_id,
            reason=reason,  # type: ignore[arg-type]  # one of the three words above
            prompt_tokens=sequence.num_prompt,
            completion_tokens=len(sequence.output),
            cached_tokens=sequence.num_cached,
            queue_us=max(0, started - sequence.arrived_us),
            prefill_us=max(0, decoding - started),
            decode_us=max(0, now_us - decoding),
        )

    def _drop(self, sequence: Sequence) -> None:
        self._act(self._scheduler.release(sequence))
        del self._sequences[sequence.request_id]
        writing = self._writing.pop(sequence.request_id, None)
        if writing is not None:
            writing.sampler.close()

    def _act(self, actions: Iterable[Action]) -> None:
        """What the scheduler decided, in its order: an id can be freed and given away in one step."""
        for action in actions:
            match action:
                case Free():
                    self._backend.remove(action.seq_id)
                case Copy():
                    self._backend.copy(action.source, action.target, action.length)

    def _learn(self, chunks: tuple[Chunk, ...], took_us: int) -> None:
        """Called before the chunks are counted as computed: prompt tokens are those still unread."""
        num_prefill = sum(each.num_tokens for each in chunks if each.sequence.status is Status.PREFILL)
        num_tokens = sum(each.num_tokens for each in chunks)
        self._budget.observe(num_tokens=num_tokens, num_prefill=num_prefill, took_us=took_us)

    def _stats(self) -> list[ToGateway]:
        now_us = self._clock.monotonic_us()
        if now_us - self._stats_us < STATS_EVERY_US and self._scheduler.has_work:
            return []
        self._stats_us = now_us
        return [
            Stats(
                running=self._scheduler.num_running,
                waiting=self._scheduler.num_waiting,
                cells_used=self._scheduler.num_cells_used,
                cells_cached=self._scheduler.num_cells_cached,
                steps=self._num_steps,
                prompt_tokens=self._num_prompt_tokens,
                completion_tokens=self._num_completion_tokens,
                cached_tokens=self._num_cached_tokens,
            )
        ]
