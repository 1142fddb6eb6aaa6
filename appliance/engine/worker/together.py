"""`Together.step`: guess → schedule → decode → sample → update → emit. The sequences of one pool.

It knows no sockets and no templates: sequences come in, messages go out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from appliance.clock import Clock
from appliance.engine.messages import Delta, Failed, Finished, Started, ToGateway
from appliance.engine.question import Sampling
from appliance.engine.worker.actions import Action, Copy, Forget, Free, Restore, Spill
from appliance.engine.worker.backend import MAX_SEQUENCE_IDS, Backend, BatchItem, DecodeStatus, Pool
from appliance.engine.worker.budget import Crowd, StepBudget, StepCost
from appliance.engine.worker.grammar import GrammarExhausted
from appliance.engine.worker.prefix_cache import DECLARED, Tokens
from appliance.engine.worker.rota import Rota
from appliance.engine.worker.scheduler import Chunk, Scheduler
from appliance.engine.worker.sequence import Sequence, Status, finished
from appliance.engine.worker.speculation import AnswerMemory, draft_length, propose
from appliance.engine.worker.tally import Tally
from appliance.engine.worker.writer import SCHEMA_TOO_COMPLEX, Writer

_NOTHING = Sampling(0.0, 1.0, 0, 0.0, 1.0, 0.0, 0.0, None, 0, ())


@dataclass(frozen=True, slots=True)
class Limits:
    """What an engine may use. Cells and ids are those of each pool."""

    max_waiting: int
    step_target_us: int
    prefix_cache_cells: int
    spilled_cells: int = 0
    speculation: bool = True


class Together:
    """Requests that are computed in one batch. Owner: the step thread.

    `emit` takes each step's messages, in order; memory and tally are the engine's, for all its pools.
    """

    def __init__(
        self,
        pool: Pool,
        backend: Backend,
        limits: Limits,
        *,
        clock: Clock,
        emit: Callable[[list[ToGateway]], None],
        memory: AnswerMemory,
        tally: Tally,
        declared: Iterable[Tokens] = (),
    ) -> None:
        self._pool = pool
        self._backend = backend
        self._clock = clock
        self._emit = emit
        self.n_ctx = pool.n_ctx
        model = backend.model
        shares = model.can_share_prefixes
        # The id behind the running ones is kept for what goes to the host's memory: the library
        # writes only ids that it could decode.
        self._scratch_id = model.n_seq_max
        # A model that can not forget a part of a sequence can not take back a wrong guess.
        max_drafts = model.max_drafts if shares and limits.speculation else 0
        self._speculates = max_drafts > 0
        prefixes = list(declared)
        self._scheduler = Scheduler(
            num_cells=pool.n_ctx,
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
        self._rota = Rota(pool.change_us)
        self._adapter = ""  # that lies over the pool's context
        pool.use("")
        self._memory = memory
        self._tally = tally
        self._sequences: dict[str, Sequence] = {}
        self._writers: dict[str, Writer] = {}
        self._spilled: dict[int, npt.NDArray[np.uint8]] = {}
        if limits.prefix_cache_cells:
            for tokens in prefixes:
                self._warm(tokens.tolist())

    @property
    def has_work(self) -> bool:
        return self._scheduler.has_work

    @property
    def num_running(self) -> int:
        return self._scheduler.num_running

    @property
    def num_waiting(self) -> int:
        return self._scheduler.num_waiting

    @property
    def num_cells_used(self) -> int:
        return self._scheduler.num_cells_used

    @property
    def num_cells_cached(self) -> int:
        """Cells that only the prefix cache holds."""
        return self._scheduler.num_cells_cached

    @property
    def num_cells_spilled(self) -> int:
        """Cells' worth of leaves in the host's memory."""
        return self._scheduler.num_cells_spilled

    @property
    def crowd(self) -> Crowd:
        """Who is here, for the budgets of both pools."""
        scheduler = self._scheduler
        return self._budget.crowd(num_writing=scheduler.num_decoding, num_reading=scheduler.num_reading)

    def in_hand(self, sequence: Sequence) -> int:
        """How many of its first tokens its tenant has here."""
        return self._scheduler.in_hand(sequence)

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
        sequence.reference = self._memory.recall(sequence) if self._speculates else None
        self._emit([Started(sequence.request_id, sequence.num_prompt, sequence.begins_thinking)])

    def abort(self, request_id: str) -> None:
        """The caller has gone. A request that is not here, or over already, needs nothing."""
        sequence = self._sequences.get(request_id)
        if sequence is not None:
            self._emit([self._finish(sequence, "aborted")])

    def step(self, beside: Crowd) -> list[ToGateway]:
        """One forward pass for everybody under one adapter in this pool, and what there is to say."""
        began_us = self._clock.monotonic_us()
        adapter = self._rota.choose(self._scheduler.adapters)
        self._guess(adapter)
        step = self._scheduler.schedule(self._budget.tokens(self.crowd, beside), adapter)
        self._act(step.actions)
        if not step.chunks:  # whoever was left has gone, or waits for cells, or what is being restored
            self._rota.could_not()
            return []
        batch, rows = self._batch(step.chunks)
        if not self._decode(batch, step.chunks):
            return []
        messages: list[ToGateway] = []
        for chunk, row in zip(step.chunks, rows, strict=True):
            messages += self._advance(chunk, row)
        took_us = self._clock.monotonic_us() - began_us
        self._tally.step(took_us)
        self._rota.ran(took_us)
        return messages

    def _guess(self, adapter: str) -> None:
        """Drafts for those who write, where they make the room quicker."""
        decoding = self._scheduler.writing(adapter) if self._speculates else []
        for sequence in decoding:
            writer = self._writers[sequence.request_id]
            rate = writer.acceptance.rate(from_reference=sequence.reference is not None)
            most = draft_length(self._cost, len(decoding), rate)
            sequence.draft = propose(sequence, writer.history, most)
            if not sequence.draft:
                writer.acceptance.rest()

    def _decode(self, batch: list[BatchItem], chunks: tuple[Chunk, ...]) -> bool:
        began_us = self._clock.monotonic_us()
        adapter = chunks[0].sequence.adapter
        has_changed = adapter != self._adapter
        if has_changed:
            self._pool.use(adapter)
            self._adapter = adapter
        if self._pool.decode(batch) is DecodeStatus.NO_ROOM:
            # The library changed nothing (llama.h, llama_decode): make room, and try again.
            self._act(self._scheduler.give_back(chunks))
            return False
        took_us = self._clock.monotonic_us() - began_us
        if has_changed:
            took_us = max(1, took_us - self._pool.change_us)
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
            sampler = self._pool.new_sampler(sequence.sampling)
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
            self._pool.remove(sequence.seq_id, sequence.num_computed)
        self._tally.completion_tokens += said.num_tokens
        messages: list[ToGateway] = []
        if said.text or said.num_tokens:
            messages.append(Delta(sequence.request_id, said.text, said.num_tokens, said.logprobs))
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
                    self._pool.remove(action.seq_id)
                case Copy():
                    self._pool.copy(action.source, action.target, action.length)
                case Spill():
                    self._pool.copy(action.tag, self._scratch_id, action.length)
                    self._spilled[action.handle] = self._pool.save(self._scratch_id)
                    self._pool.remove(self._scratch_id)
                    self._pool.remove(action.tag)
                case Restore():
                    self._restore(action)
                case Forget():
                    del self._spilled[action.handle]

    def _restore(self, action: Restore) -> None:
        if self._pool.restore(action.seq_id, self._spilled[action.handle]):
            self._pool.remove(action.seq_id, action.length)
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
            if not batch or self._pool.decode(batch) is DecodeStatus.NO_ROOM:
                raise RuntimeError("the declared prefixes do not fit into the model's cells")
            for chunk in step.chunks:
                self._scheduler.computed(chunk, 0)
        self._act(self._scheduler.release(sequence))
