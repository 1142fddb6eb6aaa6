"""The scheduler under arbitrary histories: its promises hold in every one of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from appliance.engine.question import Sampling
from appliance.engine.worker.actions import Action, Copy, Forget, Free, Restore, Spill
from appliance.engine.worker.scheduler import Chunk, Scheduler
from appliance.engine.worker.sequence import Sequence, Status

NUM_CELLS, N_SEQ_MAX, BUDGET, MAX_WAITING = 64, 4, 12, 6
GREEDY = Sampling(0.0, 1.0, 40, 0.0, 1.0, 0.0, 0.0, None, None, ())


class Machine(RuleBasedStateMachine):
    """Plays the core: adds, acts, computes what was scheduled, aborts, ends.

    Keeps its own book of which id holds which tokens, as the library would, and believes nothing else.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = Scheduler(
            num_cells=NUM_CELLS,
            n_seq_max=N_SEQ_MAX,
            budget=BUDGET,
            max_waiting=MAX_WAITING,
            max_drafts=3,
            cache_tags=range(N_SEQ_MAX, N_SEQ_MAX + 3),
            max_cached_cells=40,
            max_spilled_cells=140,
            declared=[np.array([0] * 30, np.int32)],
        )
        self.spilled: dict[int, list[int]] = {}  # what stands in the host's memory
        self.live: list[Sequence] = []
        self.held: dict[int, list[int]] = {}  # id → tokens, as the library holds them
        self.physical: dict[int, list[int]] = {}  # id → names of real cells
        self.number = 0
        self.cell = 0
        self.restores_fail_now = False

    @rule(
        prefix=st.integers(0, 2),
        size=st.integers(1, 60),
        max_tokens=st.integers(1, 24),
        tenant=st.integers(0, 1),
        adapter=st.sampled_from(["", "", "one", "two"]),
    )
    def add(self, prefix: int, size: int, max_tokens: int, tenant: int, adapter: str) -> None:
        self.number += 1
        prompt = ([prefix] * 30 + [self.number] * 60)[30 - min(30, size) :][:size]
        sequence = Sequence(
            str(self.number),
            prompt,
            min(max_tokens, NUM_CELLS - size),
            GREEDY,
            tenant=str(tenant),
            adapter=adapter,
        )
        waiting = self.scheduler.num_waiting
        accepted = self.scheduler.add(sequence)
        assert accepted == (waiting < MAX_WAITING)
        if accepted:
            self.live.append(sequence)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        self.end(data.draw(st.sampled_from(self.live)))

    @rule()
    def library_has_no_room(self) -> None:
        if self.scheduler.num_running > 1:
            done = self.scheduler.schedule(adapter=self.scheduler.adapters[0])
            self.act(done.actions)
            if done.chunks and self.scheduler.num_running > 1:
                self.act(self.scheduler.give_back(done.chunks))
            else:
                self.compute(done.chunks)

    @precondition(lambda self: any(each.status is Status.DECODE for each in self.live))
    @rule(data=st.data(), size=st.integers(1, 4))
    def guess(self, data: st.DataObject, size: int) -> None:
        decoding = [each for each in self.live if each.status is Status.DECODE]
        data.draw(st.sampled_from(decoding)).draft = [999] * size

    @rule(fails=st.booleans())
    def restores_fail(self, fails: bool) -> None:  # noqa: FBT001
        self.restores_fail_now = fails

    @rule(budget=st.integers(1, BUDGET), turn=st.integers(0, 2))
    def step(self, budget: int = BUDGET, turn: int = 0) -> None:
        at_work = self.scheduler.adapters or [""]
        adapter = at_work[turn % len(at_work)]
        decoding = [each for each in self.live if each.status is Status.DECODE and each.adapter == adapter]
        done = self.scheduler.schedule(budget, adapter)
        self.act(done.actions)
        tokens = sum(chunk.num_tokens for chunk in done.chunks)
        drafts = sum(len(chunk.draft) for chunk in done.chunks)
        assert drafts <= 3
        assert tokens <= max(budget, len(decoding) + drafts + 1) <= BUDGET
        assert all(chunk.num_tokens > 0 and chunk.sequence.adapter == adapter for chunk in done.chunks)
        assert max(Counter(id(chunk.sequence) for chunk in done.chunks).values(), default=1) == 1
        scheduled = {chunk.sequence.request_id for chunk in done.chunks}
        # Decode first: whoever wrote before writes now, unless it had to give way.
        assert all(each.request_id in scheduled or each.status is Status.WAITING for each in decoding)
        restores = any(isinstance(action, Restore) for action in done.actions)
        assert bool(done.chunks) or restores or not self.live or len(at_work) > 1
        self.compute(done.chunks)

    def act(self, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case Free():
                    self.free(action.seq_id)
                case Copy():
                    assert action.target not in self.held
                    assert action.length <= len(self.held[action.source])
                    self.held[action.target] = self.held[action.source][: action.length]
                    self.physical[action.target] = self.physical[action.source][: action.length]
                case Spill():
                    assert len(self.held[action.tag]) == action.length
                    self.spilled[action.handle] = self.held[action.tag]
                    self.free(action.tag)
                case Restore():
                    self.restore(action)
                case Forget():
                    del self.spilled[action.handle]

    def free(self, seq_id: int) -> None:
        self.held.pop(seq_id, None)
        self.physical.pop(seq_id, None)

    def restore(self, action: Restore) -> None:
        whole = self.spilled[action.handle]
        assert action.seq_id not in self.held
        assert action.length <= len(whole)
        if self.restores_fail_now:
            self.act(self.scheduler.not_restored(action.seq_id, action.handle))
            return
        # The library needs room for all of it before it forgets the rest.
        assert len({cell for cells in self.physical.values() for cell in cells}) + len(whole) <= NUM_CELLS
        self.held[action.seq_id] = whole[: action.length]
        self.physical[action.seq_id] = []
        self.grow(action.seq_id, action.length)

    def grow(self, seq_id: int, size: int) -> None:
        for _ in range(size):
            self.cell += 1
            self.physical.setdefault(seq_id, []).append(self.cell)

    def compute(self, chunks: Iterable[Chunk]) -> None:
        for chunk in chunks:
            sequence = chunk.sequence
            held = self.held.setdefault(sequence.seq_id, [])
            assert len(held) == sequence.num_computed
            held += [*sequence.known(sequence.num_computed, chunk.num_known), *chunk.draft]
            self.grow(sequence.seq_id, chunk.num_tokens)
        for chunk in chunks:
            sequence = chunk.sequence
            ends = chunk.ends_input
            # Every other guess is right, as far as the answer may still go.
            right = min(len(chunk.draft) // 2, sequence.max_tokens - len(sequence.output))
            sequence.output += chunk.draft[:right]
            sequence.draft = []
            self.scheduler.computed(chunk, right)
            if right < len(chunk.draft):
                del self.held[sequence.seq_id][sequence.num_computed :]
                del self.physical[sequence.seq_id][sequence.num_computed :]
            # What stands under its id is its own text, whoever computed it.
            assert self.held[sequence.seq_id] == sequence.known(0, sequence.num_computed)
            if ends:
                sequence.status = Status.DECODE
                if len(sequence.output) < sequence.max_tokens:
                    sequence.output.append(-len(sequence.output))
                if len(sequence.output) >= sequence.max_tokens:
                    self.end(sequence)

    def end(self, sequence: Sequence) -> None:
        self.act(self.scheduler.release(sequence))
        self.live.remove(sequence)

    @invariant()
    def books_agree(self) -> None:
        held = [each.seq_id for each in self.live if each.status is not Status.WAITING]
        assert len(held) == len(set(held)) == self.scheduler.num_running
        assert len(held) + len(self.scheduler._free_ids) == N_SEQ_MAX
        assert self.scheduler.num_running + self.scheduler.num_waiting == len(self.live)
        distinct = {cell for cells in self.physical.values() for cell in cells}
        assert len(distinct) == self.scheduler.num_cells_used <= NUM_CELLS
        assert sum(map(len, self.spilled.values())) == self.scheduler.num_cells_spilled <= 140

    def teardown(self) -> None:
        # No starvation: without newcomers everybody comes to an end.
        for turn in range(3000):
            if not self.live:
                break
            self.step(turn=turn)
        assert not self.live
        assert not self.scheduler.has_work
        assert self.scheduler.num_cells_used == self.scheduler.num_cells_cached <= 40

    @invariant()
    def strangers_share_only_what_is_declared(self) -> None:
        for one in self.live:
            for other in self.live:
                if one.tenant == other.tenant or -1 in {one.seq_id, other.seq_id}:
                    continue
                mine = self.physical.get(one.seq_id, [])
                theirs = set(self.physical.get(other.seq_id, []))
                assert sum(cell in theirs for cell in mine) in {0, 30}

    @invariant()
    def adapters_share_nothing(self) -> None:
        for one in self.live:
            for other in self.live:
                if one.adapter != other.adapter and -1 not in {one.seq_id, other.seq_id}:
                    mine = self.physical.get(one.seq_id, [])
                    assert not set(mine) & set(self.physical.get(other.seq_id, []))


TestScheduler = Machine.TestCase
TestScheduler.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


@given(st.lists(st.integers(1, 30), min_size=2, max_size=6))
def test_first_come_first_admitted(prompts: list[int]) -> None:
    """Nobody who came later holds a sequence while somebody earlier waits for their first."""
    scheduler = Scheduler(num_cells=NUM_CELLS, n_seq_max=N_SEQ_MAX, budget=BUDGET, max_waiting=10)
    sequences = [Sequence(str(n), [n] * size, 4, GREEDY) for n, size in enumerate(prompts)]
    for sequence in sequences:
        scheduler.add(sequence)
    scheduler.schedule()
    admitted = [each.status is not Status.WAITING for each in sequences]

    assert admitted == sorted(admitted, reverse=True)
