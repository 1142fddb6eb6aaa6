"""Which inputs share a batch: budgets, turns, and the one input that may be split."""

from __future__ import annotations

import pytest

from appliance.engine.worker.batcher import Batcher


def shape(batcher: Batcher, budget: int) -> list[tuple[str, int, int, int, bool]]:
    return [(s.job, s.index, s.begin, len(s.tokens), s.ends) for s in batcher.next(budget)]


def tokens(*sizes: int) -> list[list[int]]:
    return [[7] * size for size in sizes]


def test_a_batch_is_filled_up_to_its_budget_and_the_rest_is_split() -> None:
    """The last input goes on at the head of the next batch, under the same id."""
    batcher = Batcher(n_batch=10, n_seq_max=4, splits=True)
    batcher.add("a", tokens(4, 9))
    first = batcher.next(10)
    second = batcher.next(10)

    assert [(s.index, s.begin, len(s.tokens), s.ends) for s in first] == [(0, 0, 4, True), (1, 0, 6, False)]
    assert [(s.index, s.begin, len(s.tokens), s.ends) for s in second] == [(1, 6, 3, True)]
    assert first[1].seq_id == second[0].seq_id
    assert not batcher.has_work
    assert batcher.next(10) == []


def test_whole_models_get_whole_inputs() -> None:
    """An input that does not fit into what is left waits; a long one is alone, beyond the budget."""
    batcher = Batcher(n_batch=10, n_seq_max=4, splits=False)
    batcher.add("a", tokens(4, 9, 2))

    assert shape(batcher, 6) == [("a", 0, 0, 4, True)]
    assert shape(batcher, 6) == [("a", 1, 0, 9, True)]
    assert shape(batcher, 6) == [("a", 2, 0, 2, True)]


def test_jobs_take_turns() -> None:
    """A small job does not wait for the end of a large one."""
    batcher = Batcher(n_batch=100, n_seq_max=3, splits=True)
    batcher.add("large", tokens(*[5] * 50))
    batcher.next(100)
    batcher.add("small", tokens(5))

    assert "small" in [s.job for s in batcher.next(100)]


def test_ids_bound_a_batch_too() -> None:
    """Many short inputs: as many as there are ids, each with its own."""
    batcher = Batcher(n_batch=100, n_seq_max=3, splits=True)
    batcher.add("a", tokens(1, 1, 1, 1))

    assert sorted(s.seq_id for s in batcher.next(100)) == [0, 1, 2]
    assert len(batcher.next(100)) == 1


def test_dropping_a_job_tells_which_id_is_to_be_freed() -> None:
    """Only an unfinished input holds anything between two batches."""
    batcher = Batcher(n_batch=10, n_seq_max=4, splits=True)
    batcher.add("a", tokens(15, 3))
    batcher.add("b", tokens(3))
    opened = batcher.next(10)

    assert batcher.drop("b") is None
    assert batcher.drop("a") == opened[0].seq_id
    assert batcher.drop("a") is None
    assert not batcher.has_work


@pytest.mark.parametrize(("sizes", "splits"), [((0,), True), ((11,), False)])
def test_inputs_that_no_batch_can_hold_are_errors(sizes: tuple[int, ...], splits: bool) -> None:  # noqa: FBT001
    """An empty input, or one longer than a batch of a model that can not split."""
    with pytest.raises(ValueError, match="no batch"):
        Batcher(n_batch=10, n_seq_max=4, splits=splits).add("a", tokens(*sizes))
