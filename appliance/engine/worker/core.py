"""`EngineCore.step`: guess → schedule → decode → sample → update → emit. Owner of everything: one thread.

The core knows no sockets and no templates: sequences come in, messages go out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from appliance.clock import Clock
from appliance.engine.messages import Delta, Failed, Finished, Sampling, Started, Stats, ToGateway
from appliance.engine.worker.actions import Action, Copy, Forget, Free, Restore, Spill
from appliance.engine.worker.alone import Alone
from appliance.engine.worker.backend import MAX_SEQUENCE_IDS, Backend, BatchItem, DecodeStatus
from appliance.engine.worker.budget import StepBudget, StepCost
from appliance.engine.worker.grammar import GrammarExhausted
from appliance.engine.worker.prefix_cache import DECLARED
from appliance.engine.worker.scheduler import Chunk, Scheduler
from appliance.engine.worker.sequence import Sequence, Status, finished
from appliance.engine.worker.speculation import AnswerMemory, draft_length, propose
from appliance.engine.worker.tally import Tally
from appliance.engine.worker.writer import SCHEMA_TOO_COMPLEX, Writer

STATS_EVERY_US = 1_000_000
_NOTHING = Sampling(0.0, 1.0, 0, 0.0, 1.0, 0.0, 0.0, None, 0, ())


@dataclass(frozen=True, slots=True)
class Limits:
    """What an engine may use."""

    max_waiting: int
    step_target_us: int
    prefix_cache_cells: int
    spilled_cells: int = 0
    speculation: bool = True


class EngineCore:
    """Sequences of one model. `emit` takes each step's messages, in order."""

    def __init__(
        self,
        backend: Backend,
        limits: Limits,
        *,
        clock: Clock,
        emit: Callable[[list[ToGateway]], None],
        declared: Iterable[list[int]] = (),
    ) -> None:
        self._backend = backend
        self._clock = clock
        self._emit = emit
        model = backend.model
        shares = model.can_share_prefixes
        # The id behind the running ones is kept for what goes to the host's memory: the library
        # writes only ids that it could decode.
        self._scratch_id = model.n_seq_max
        # A model that can not forget a part of a sequence can not take back a wrong guess.
        max_drafts = model.max_drafts if shares and limits.speculation else 0
        self._speculates = max_drafts > 0
        prefixes = [np.array(tokens, np.int32) for tokens in declared] if shares else []
        self._scheduler = Scheduler(
            num_cells=model.n_ctx,
            n_seq_max=model.n_seq_max,
            budget=model.n_batch,
            max_waiting=limits.max_waiting,
            max_drafts=max_drafts,
            cache_tags=range(model.n_seq_max + 1, MAX_SEQUENCE_IDS) if shares else (),
            max_cached_cells=limits.prefix_cache_cells if shares else 0,
            max_spilled_cells=limits.spilled_cells if shares else 0,
            declared=prefixes,
        )
        self._budget = StepBudget(target_us=limits.step_target_us, max_tokens=model.n_batch)
        self._cost = StepCost()
        self._memory = AnswerMemory()
        self._sequences: dict[str, Sequence] = {}
        self._writers: dict[str, Writer] = {}
        self._spilled: dict[int, npt.NDArray[np.uint8]] = {}
        self._tally = Tally()
        self._alone = Alone(backend, max_waiting=limits.max_waiting, clock=clock, emit=emit)
        self._stats_us = 0
        if limits.prefix_cache_cells:
            for tokens in prefixes:
                self._warm(tokens.tolist())

    @property
    def has_work(self) -> bool:
        return self._scheduler.has_work or self._alone.has_work

    def add(self, sequence: Sequence) -> None:
        """Queue a request and say Started, or fail it where the queue is full.

        Started is a promise of an answer, and the gateway's status line hangs on it: it is given
        only here, where the queue is known.
        """
        if sequence.setup is not None:
            self._alone.add(sequence)
            return
        sequence.arrived_us = self._clock.monotonic_us()
        if not self._scheduler.add(sequence):
            self._emit([Failed(sequence.request_id, "overloaded", "the model's queue is full")])
            return
        self._sequences[sequence.request_id] = sequence
        sequence.reference = self._memory.recall(sequence) if self._speculates else None
        self._emit([Started(sequence.request_id, sequence.num_prompt)])

    def abort(self, request_id: str) -> None:
        """The caller has gone. A request that is over already needs nothing."""
        sequence = self._sequences.get(request_id)
        if sequence is not None:
            self._emit([self._finish(sequence, "aborted")])
        else:
            self._alone.abort(request_id)

    def step(self) -> None:
        """One forward pass for everybody, and a turn for whoever computes alone."""
        self._step_together()
        if self._alone.has_work:
            self._alone.step()
            if not self.has_work:  # the last picture shows nobody
                self._emit(self._stats())

    def _step_together(self) -> None:
        began_us = self._clock.monotonic_us()
        self._guess()
        step = self._scheduler.schedule(self._budget.tokens(num_decoding=self._scheduler.num_decoding))
        self._act(step.actions)
        if not step.chunks:  # whoever was left has gone, or waits for what is being restored
            self._emit(self._stats())
            return
        batch, rows = self._batch(step.chunks)
        if not self._decode(batch, step.chunks):
            return
        messages: list[ToGateway] = []
        for chunk, row in zip(step.chunks, rows, strict=True):
            messages += self._advance(chunk, row)
        self._tally.step(self._clock.monotonic_us() - began_us)
        self._emit([*messages, *self._stats()])

    def _guess(self) -> None:
        """Drafts for those who write, where they make the room quicker."""
        decoding = self._scheduler.decoding if self._speculates else []
        for sequence in decoding:
            writer = self._writers[sequence.request_id]
            rate = writer.acceptance.rate(from_reference=sequence.reference is not None)
            most = draft_length(self._cost, len(decoding), rate)
            sequence.draft = propose(sequence, writer.history, most)
            if not sequence.draft:
                writer.acceptance.rest()

    def _decode(self, batch: list[BatchItem], chunks: tuple[Chunk, ...]) -> bool:
        began_us = self._clock.monotonic_us()
        if self._backend.decode(batch) is DecodeStatus.NO_ROOM:
            # The library changed nothing (llama.h, llama_decode): make room, and try again.
            self._act(self._scheduler.give_back(chunks))
            return False
        took_us = self._clock.monotonic_us() - began_us
        # Prompt tokens are those of chunks whose sequence has written nothing yet.
        num_prefill = sum(each.num_tokens for each in chunks if each.sequence.status is Status.PREFILL)
        self._budget.observe(num_tokens=len(batch), num_prefill=num_prefill, took_us=took_us)
        self._cost.observe(len(batch), took_us)
        return True

    def _batch(self, chunks: tuple[Chunk, ...]) -> tuple[list[BatchItem], list[int]]:
        """The tokens of a step, and for each chunk the first row that is sampled (-1: none)."""
        batch: list[BatchItem] = []
        rows: list[int] = []
        for chunk in chunks:
            sequence, begin = chunk.sequence, chunk.sequence.num_computed
            if sequence.started_us == 0:
                sequence.started_us = self._clock.monotonic_us()
                self._tally.cached_tokens += sequence.num_cached
            tokens = sequence.known(begin, chunk.num_known)
            if sequence.status is Status.PREFILL:
                self._tally.prompt_tokens += len(tokens)
            first_row = len(tokens) - 1 if chunk.ends_input else chunk.num_tokens
            rows.append(len(batch) + first_row if chunk.ends_input else -1)
            batch += [
                BatchItem(token, begin + offset, sequence.seq_id, offset >= first_row)
                for offset, token in enumerate([*tokens, *chunk.draft])
            ]
        return batch, rows

    def _advance(self, chunk: Chunk, row: int) -> list[ToGateway]:
        """Sample one sequence, and say what can be said."""
        sequence = chunk.sequence
        if row < 0:
            self._scheduler.computed(chunk, 0)
            return []
        writer = self._writers.get(sequence.request_id)
        if writer is None:
            sampler = self._backend.new_sampler(sequence.sampling)
            writer = self._writers[sequence.request_id] = Writer(self._backend, sequence, sampler)
            sequence.decoding_us = self._clock.monotonic_us()
        sequence.status = Status.DECODE
        try:
            tokens = writer.choose(row, chunk.draft)
        except GrammarExhausted as error:
            self._free(sequence)
            return [Failed(sequence.request_id, SCHEMA_TOO_COMPLEX, str(error))]
        num_right = len(tokens) - 1
        if chunk.draft:
            from_reference = sequence.reference is not None
            writer.acceptance.observe(len(chunk.draft), num_right, from_reference=from_reference)
            self._tally.drafted_tokens += len(chunk.draft)
            self._tally.accepted_tokens += num_right
        said = writer.say(tokens)
        # A stop among the guesses ends the text before what was computed of them.
        num_right = min(num_right, max(0, sequence.num_tokens - sequence.num_computed - chunk.num_known))
        self._scheduler.computed(chunk, num_right)
        if num_right < len(chunk.draft):
            self._backend.remove(sequence.seq_id, sequence.num_computed)
        self._tally.completion_tokens += said.num_tokens
        messages: list[ToGateway] = []
        if said.text or said.num_tokens:
            messages.append(Delta(sequence.request_id, said.text, said.num_tokens))
        if said.reason is not None:
            messages.append(self._finish(sequence, said.reason))
        return messages

    def _finish(self, sequence: Sequence, reason: str) -> Finished:
        """The one terminal message of an answer, whole or not."""
        if self._speculates and reason != "aborted":
            self._memory.remember(sequence)
        self._free(sequence)
        return finished(sequence, reason, self._clock.monotonic_us())

    def _free(self, sequence: Sequence) -> None:
        """Everything that the sequence held."""
        self._act(self._scheduler.release(sequence))
        del self._sequences[sequence.request_id]
        writer = self._writers.pop(sequence.request_id, None)
        if writer is not None:
            writer.close()

    def _act(self, actions: Iterable[Action]) -> None:
        """What the scheduler decided, in its order: an id can be freed and given away in one step."""
        for action in actions:
            match action:
                case Free():
                    self._backend.remove(action.seq_id)
                case Copy():
                    self._backend.copy(action.source, action.target, action.length)
                case Spill():
                    self._backend.copy(action.tag, self._scratch_id, action.length)
                    self._spilled[action.handle] = self._backend.save(self._scratch_id)
                    self._backend.remove(self._scratch_id)
                    self._backend.remove(action.tag)
                case Restore():
                    self._restore(action)
                case Forget():
                    del self._spilled[action.handle]

    def _restore(self, action: Restore) -> None:
        if self._backend.restore(action.seq_id, self._spilled[action.handle]):
            self._backend.remove(action.seq_id, action.length)
            self._tally.restored_tokens += action.length
            return
        self._act(self._scheduler.not_restored(action.seq_id, action.handle))

    def _warm(self, prompt: list[int]) -> None:
        """Compute what the operator declared shared, before anybody asks. Without outputs or words."""
        sequence = Sequence("", prompt, 0, _NOTHING, tenant=DECLARED)
        self._scheduler.add(sequence)
        while sequence.num_computed < sequence.num_prompt:
            step = self._scheduler.schedule()
            self._act(step.actions)
            batch = [
                BatchItem(token, sequence.num_computed + offset, sequence.seq_id, wants_logits=False)
                for chunk in step.chunks
                for offset, token in enumerate(sequence.known(sequence.num_computed, chunk.num_tokens))
            ]
            if not batch or self._backend.decode(batch) is DecodeStatus.NO_ROOM:
                raise RuntimeError("the declared prefixes do not fit into the model's cells")
            for chunk in step.chunks:
                self._scheduler.computed(chunk, 0)
        self._act(self._scheduler.release(sequence))

    def _stats(self) -> list[ToGateway]:
        now_us = self._clock.monotonic_us()
        if now_us - self._stats_us < STATS_EVERY_US and self.has_work:
            return []
        self._stats_us = now_us
        tally, scheduler = self._tally, self._scheduler
        return [
            Stats(
                running=scheduler.num_running + self._alone.num_running,
                waiting=scheduler.num_waiting + self._alone.num_waiting,
                cells_used=scheduler.num_cells_used,
                cells_cached=scheduler.num_cells_cached,
                cells_spilled=scheduler.num_cells_spilled,
                steps=tally.steps,
                step_us=tally.step_us,
                step_buckets=tuple(tally.step_buckets),
                prompt_tokens=tally.prompt_tokens,
                completion_tokens=tally.completion_tokens,
                cached_tokens=tally.cached_tokens,
                restored_tokens=tally.restored_tokens,
                drafted_tokens=tally.drafted_tokens,
                accepted_tokens=tally.accepted_tokens,
            )
        ]
