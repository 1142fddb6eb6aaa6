"""Speeds from the moments at which tokens came."""

from __future__ import annotations

from appliance.evaluating import speed


def stream(begin_us: int, step_us: int, count: int) -> list[tuple[int, int]]:
    return [(begin_us + at * step_us, 1) for at in range(count)]


def test_a_stream_s_first_token_is_where_the_clock_starts() -> None:
    """Eleven tokens, a hundred milliseconds apart: ten of them took a second."""
    assert speed.rate([stream(5_000_000, 100_000, 11)]) == 10.0


def test_only_the_time_counts_in_which_all_answered() -> None:
    """From the last one's first token to the first one's last: here 10 tokens of each in a second."""
    early, late = stream(0, 100_000, 21), stream(1_000_000, 100_000, 21)

    assert speed.rate([early, late]) == 20.0


def test_too_few_tokens_say_nothing() -> None:
    """A model that ended its answer at once, or answers that were not there at one time."""
    assert speed.rate([]) is None
    assert speed.rate([[]]) is None
    assert speed.rate([stream(0, 1000, 5)]) is None
    assert speed.rate([stream(0, 1000, 50), stream(1_000_000, 1000, 50)]) is None


def test_no_two_texts_begin_alike() -> None:
    """What was computed for one must not help another; and they are about as long as asked for."""
    texts = [speed.counting(number, 300) for number in range(64)]

    assert len({each.split()[0] for each in texts}) == 64
    assert all(len(each.split()) == 100 for each in texts)
