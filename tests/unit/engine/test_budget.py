"""How large a step may be: by those who read an answer, and by those who wait for their prompt."""

from __future__ import annotations

from appliance.engine.worker.budget import (
    FIRST_TOKENS,
    LARGE_STEP,
    MAX_STRETCH,
    MIN_PREFILL_TOKENS,
    NOBODY,
    Crowd,
    StepBudget,
)

MAX_TOKENS, TARGET_US = 512, 150_000
WRITING_US, TOKEN_US = 30_000, 3_000


def learned(*, small_us: int = TOKEN_US, large_us: int = TOKEN_US) -> StepBudget:
    budget = StepBudget(target_us=TARGET_US, max_tokens=MAX_TOKENS)
    budget.observe(num_tokens=8, num_prefill=0, took_us=WRITING_US)
    budget.observe(num_tokens=20, num_prefill=12, took_us=20 * small_us)
    budget.observe(num_tokens=LARGE_STEP, num_prefill=LARGE_STEP, took_us=LARGE_STEP * large_us)
    return budget


def test_nobody_is_disturbed_where_nobody_writes() -> None:
    """Prompts are read in the largest batches, however many wait."""
    assert learned().tokens(Crowd(num_reading=3), Crowd(num_reading=2)) == MAX_TOKENS


def test_writers_see_at_most_a_stretched_step() -> None:
    """With fewer who wait than who read an answer, a step keeps to the stretch."""
    tokens = learned().tokens(Crowd(8, 1, WRITING_US))

    assert tokens == int(MAX_STRETCH * WRITING_US / TOKEN_US)


def test_who_waits_counts_as_much() -> None:
    """With more who wait than who read, only the step's target holds."""
    crowd = Crowd(1, 7, WRITING_US)

    assert learned().tokens(crowd) == TARGET_US // TOKEN_US


def test_a_step_is_made_large_where_that_costs_little() -> None:
    """Where 64 tokens are computed by a quicker kernel, 50 are not read at the price of 64."""
    crowd = Crowd(1, 7, WRITING_US)

    assert learned(large_us=2_500).tokens(crowd) == LARGE_STEP
    assert learned(large_us=1_000).tokens(crowd) == 150
    assert learned(small_us=4_000, large_us=3_900).tokens(crowd) == TARGET_US // 4_000


def test_two_pools_keep_to_one_bound() -> None:
    """Both steps together, with what both read, take at most the stretch of both without prompts."""
    shared, apart = Crowd(8, 1, WRITING_US), Crowd(4, 1, WRITING_US)
    added_us = 0
    for one, other in ((shared, apart), (apart, shared)):
        added_us += learned().tokens(one, other) * TOKEN_US - WRITING_US

    assert 0 < added_us <= (MAX_STRETCH - 1) * 2 * WRITING_US


def test_prompts_beside_the_other_pools_writers_are_bounded() -> None:
    """A pool in which nobody writes does not read at leisure while the other one is written in."""
    beside = Crowd(8, 0, WRITING_US)
    first = StepBudget(target_us=TARGET_US, max_tokens=MAX_TOKENS)

    assert learned().tokens(Crowd(0, 1), beside) == int((MAX_STRETCH - 1) * WRITING_US / TOKEN_US)
    assert first.tokens(Crowd(0, 1), beside) == FIRST_TOKENS


def test_prompts_never_starve() -> None:
    """However slow the machine is, a few tokens of a prompt are read in each step."""
    budget = learned(small_us=1_000_000, large_us=1_000_000)

    assert budget.tokens(Crowd(8, 1, WRITING_US)) == 8 + MIN_PREFILL_TOKENS
    assert budget.tokens(Crowd(8, 1, WRITING_US), NOBODY) == 8 + MIN_PREFILL_TOKENS
