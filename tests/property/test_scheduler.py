"""The scheduler under arbitrary histories: its promises hold in every one of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from appliance.engine.messages import Sampling
from appliance.engine.worker.scheduler import Action, Chunk, Free, Scheduler
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
            cache_tags=range(N_SEQ_MAX, N_SEQ_MAX + 3),
            max_cached_cells=40,
        )
        self.live: list[Sequence] = []
        self.held: dict[int, list[int]] = {}  # id → tokens, as the library holds them
        self.physical: dict[int, list[int]] = {}  # id → names of real cells
        self.number = 0
        self.cell = 0

    @rule(
        prefix=st.integers(0, 2),
        size=st.integers(1, 60),
        max_tokens=st.integers(1, 24),
        tenant=st.integers(0, 1),
    )
    def add(self, prefix: int, size: int, max_tokens: int, tenant: int) -> None:
        self.number += 1
        prompt = ([prefix] * 30 + [self.number] * 60)[30 - min(30, size) :][:size]
        sequence = Sequence(
            str(self.number), prompt, min(max_tokens, NUM_CELLS - size), GREEDY, tenant=str(tenant)
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
            done = self.scheduler.schedule()
            self.act(done.actions)
            if done.chunks and self.scheduler.num_running > 1:
                self.act(self.scheduler.give_back(done.chunks))
            else:
                self.compute(done.chunks)

    @rule(budget=st.integers(1, BUDGET))
    def step(self, budget: int = BUDGET) -> None:
        decoding = [each for each in self.live if each.status is Status.DECODE]
        done = self.scheduler.schedule(budget)
        self.act(done.actions)
        tokens = sum(chunk.num_tokens for chunk in done.chunks)
        assert tokens <= max(budget, len(decoding) + 1) <= BUDGET
        assert all(chunk.num_tokens > 0 for chunk in done.chunks)
        assert max(Counter(id(chunk.sequence) for chunk in done.chunks).values(), default=1) == 1
        scheduled = {chunk.sequence.request_id for chunk in done.chunks}
        # Decode first: whoever wrote before writes now, unless it had to give way.
        assert all(each.request_id in scheduled or each.status is Status.WAITING for each in decoding)
        assert bool(done.chunks) == bool(self.live)
        self.compute(done.chunks)

    def act(self, actions: Iterable[Action]) -> None:
        for action in actions:
            if isinstance(action, Free):
                self.held.pop(action.seq_id, None)
                self.physical.pop(action.seq_id, None)
            else:
                assert action.target not in self.held
                assert action.length <= len(self.held[action.source])
                self.held[action.target] = self.held[action.source][: action.length]
                self.physical[action.target] = self.physical[action.source][: action.length]

    def compute(self, chunks: Iterable[Chunk]) -> None:
        for chunk in chunks:
            sequence = chunk.sequence
            held = self.held.setdefault(sequence.seq_id, [])
            assert len(held) == sequence.num_computed
            held += sequence.known(sequence.num_computed, chunk.num_tokens)
            for _ in range(chunk.num_tokens):
                self.cell += 1
                self.physical.setdefault(sequence.seq_id, []).append(self.cell)
        for chunk in chunks:
            sequence = chunk.sequence
            # What stands under its id is its own text, whoever computed it.
            ends = chunk.ends_input
            sequence.num_computed += chunk.num_tokens
            assert self.held[sequence.seq_id] == sequence.known(0, sequence.num_computed)
            if ends:
                sequence.status = Status.DECODE
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

    def teardown(self) -> None:
        # No starvation: without newcomers everybody comes to an end.
        for _ in range(3000):
            if not self.live:
                break
            self.step()
        assert not self.live
        assert not self.scheduler.has_work
        assert self.scheduler.num_cells_used == self.scheduler.num_cells_cached <= 40


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
