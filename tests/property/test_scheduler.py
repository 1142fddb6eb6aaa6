"""The scheduler under arbitrary histories: its promises hold in every one of them."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from appliance.engine.messages import Sampling
from appliance.engine.worker.scheduler import Scheduler
from appliance.engine.worker.sequence import Sequence, Status

NUM_CELLS, N_SEQ_MAX, BUDGET, MAX_WAITING = 64, 4, 12, 6
GREEDY = Sampling(0.0, 1.0, 40, 0.0, 1.0, 0.0, 0.0, None, None, ())


class Machine(RuleBasedStateMachine):
    """Plays the core: adds, computes what was scheduled, aborts, ends."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = Scheduler(
            num_cells=NUM_CELLS, n_seq_max=N_SEQ_MAX, budget=BUDGET, max_waiting=MAX_WAITING
        )
        self.live: list[Sequence] = []
        self.number = 0
        self.steps_without_progress = 0

    @rule(prompt=st.integers(1, 40), max_tokens=st.integers(1, 24))
    def add(self, prompt: int, max_tokens: int) -> None:
        self.number += 1
        sequence = Sequence(str(self.number), [0] * prompt, min(max_tokens, NUM_CELLS - prompt), GREEDY)
        waiting = self.scheduler.num_waiting
        accepted = self.scheduler.add(sequence)
        assert accepted == (waiting < MAX_WAITING)
        if accepted:
            self.live.append(sequence)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        sequence = data.draw(st.sampled_from(self.live))
        self.scheduler.release(sequence)
        self.live.remove(sequence)

    @rule()
    def step(self) -> None:
        decoding = [each for each in self.live if each.status is Status.DECODE]
        done = self.scheduler.schedule()
        tokens = sum(chunk.num_tokens for chunk in done.chunks)
        assert tokens <= BUDGET
        assert self.scheduler.num_cells_used + tokens <= NUM_CELLS
        assert all(chunk.num_tokens > 0 for chunk in done.chunks)
        assert max(Counter(id(chunk.sequence) for chunk in done.chunks).values(), default=1) == 1
        scheduled = {chunk.sequence.request_id for chunk in done.chunks}
        # Decode first: whoever wrote before writes now, unless it had to give way.
        assert all(each.request_id in scheduled or each.status is Status.WAITING for each in decoding)
        assert bool(done.chunks) == bool(self.live)
        for chunk in done.chunks:
            self.compute(chunk.sequence, chunk.num_tokens)

    def compute(self, sequence: Sequence, size: int) -> None:
        ends = sequence.num_computed + size == sequence.num_tokens
        sequence.num_computed += size
        if not ends:
            return
        sequence.status = Status.DECODE
        sequence.output.append(0)
        if len(sequence.output) >= sequence.max_tokens:
            self.scheduler.release(sequence)
            self.live.remove(sequence)

    @invariant()
    def ids_are_unique_and_none_is_lost(self) -> None:
        held = [each.seq_id for each in self.live if each.status is not Status.WAITING]
        assert len(held) == len(set(held)) == self.scheduler.num_running
        assert len(held) + len(self.scheduler._free_ids) == N_SEQ_MAX
        assert self.scheduler.num_running + self.scheduler.num_waiting == len(self.live)

    def teardown(self) -> None:
        # No starvation: without newcomers everybody comes to an end.
        for _ in range(3000):
            if not self.live:
                break
            self.step()
        assert not self.live
        assert not self.scheduler.has_work
        assert self.scheduler.num_cells_used == 0


TestScheduler = Machine.TestCase
TestScheduler.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


@given(st.lists(st.integers(1, 30), min_size=2, max_size=6))
def test_first_come_first_admitted(prompts: list[int]) -> None:
    """Nobody who came later holds a sequence while somebody earlier waits for their first."""
    scheduler = Scheduler(num_cells=NUM_CELLS, n_seq_max=N_SEQ_MAX, budget=BUDGET, max_waiting=10)
    sequences = [Sequence(str(n), [0] * size, 4, GREEDY) for n, size in enumerate(prompts)]
    for sequence in sequences:
        scheduler.add(sequence)
    scheduler.schedule()
    admitted = [each.status is not Status.WAITING for each in sequences]

    assert admitted == sorted(admitted, reverse=True)
