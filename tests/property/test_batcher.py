"""The batcher under arbitrary jobs and budgets: everything once, in order, within every bound."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.worker.batcher import Batcher
from appliance.engine.worker.embedder import Slice

N_BATCH, N_SEQ_MAX = 16, 4

sizes = st.lists(st.lists(st.integers(1, N_BATCH), min_size=1, max_size=6), min_size=1, max_size=5)
budgets = st.lists(st.integers(1, 2 * N_BATCH), min_size=1, max_size=8)


def check_bounds(batch: list[Slice], budget: int, *, splits: bool) -> None:
    ids = [each.seq_id for each in batch]
    size = sum(len(each.tokens) for each in batch)
    assert len(set(ids)) == len(ids)
    assert all(0 <= each < N_SEQ_MAX for each in ids)
    assert 0 < size <= N_BATCH
    assert size <= budget or (not splits and len(batch) == 1)
    assert sum(not each.ends for each in batch) <= 1


@given(jobs=sizes, turns=budgets, splits=st.booleans(), dropped=st.none() | st.integers(0, 4))
def test_every_input_is_computed_once_and_in_order(
    jobs: list[list[int]],
    turns: list[int],
    splits: bool,  # noqa: FBT001
    dropped: int | None,
) -> None:
    """What the slices of an input hold is the input; a dropped job is never seen again."""
    batcher = Batcher(n_batch=N_BATCH, n_seq_max=N_SEQ_MAX, splits=splits)
    inputs = {
        (str(job), index): [job * 100 + index * 10 + n for n in range(size)]
        for job, each in enumerate(jobs)
        for index, size in enumerate(each)
    }
    for job, each in enumerate(jobs):
        batcher.add(str(job), [inputs[str(job), index] for index in range(len(each))])
    got: dict[tuple[str, int], list[int]] = {}
    opened: dict[int, tuple[str, int]] = {}  # ids between two batches, and who holds them
    turn = 0
    while batcher.has_work:
        budget = turns[turn % len(turns)]
        if turn == 2 and dropped is not None:
            freed = batcher.drop(str(dropped))
            assert freed in {None, *opened}
            opened = {seq_id: place for seq_id, place in opened.items() if seq_id != freed}
            assert all(place[0] != str(dropped) for place in opened.values())
            if not batcher.has_work:
                break
        batch = batcher.next(budget)
        check_bounds(batch, budget, splits=splits)
        assert turn <= 2 or dropped is None or str(dropped) not in {each.job for each in batch}
        for part in batch:
            place = (part.job, part.index)
            assert opened.pop(part.seq_id, place) == place
            assert part.begin == len(got.setdefault(place, []))
            got[place] += part.tokens
            assert part.ends == (got[place] == inputs[place])
            if not part.ends:
                opened[part.seq_id] = place
        assert len(opened) <= 1
        turn += 1
    whole = {place: value for place, value in inputs.items() if place[0] != str(dropped)}

    assert {place: got[place] for place in whole} == whole
