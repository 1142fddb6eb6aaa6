"""Speeds from the moments at which tokens came."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from appliance.clock import SystemClock
from appliance.core import ModelSpec, Purpose
from appliance.engine_settings import Engine as EngineSettings
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
    """What was computed for one must not help another; and each word is a token at least."""
    texts = [speed.counting(number, 100) for number in range(64)]

    assert len({each.split()[0] for each in texts}) == 64
    assert all(len(each.split()) == 100 for each in texts)


@pytest.mark.parametrize("purpose", [Purpose.CHAT, Purpose.EMBEDDING, Purpose.RERANK])
async def test_each_kind_of_model_is_measured_by_what_it_does(purpose: Purpose) -> None:
    """One that only reads has no answers, and no first token; each figure is told when it is there."""
    steps: list[int] = []
    sizes = speed.Sizes(streams=(1, 2), prompt_tokens=30, answer_tokens=16)
    found = await speed.measure(
        ModelSpec("made-up", "0" * 64, 1, Path(__file__), purpose=purpose),
        EngineSettings(),
        sizes,
        clock=SystemClock(),
        command=[sys.executable, "-m", "tests.fakes.fake_worker"],
        step=lambda: steps.append(1),
    )

    assert found.prefill is not None
    assert found.prefill > 0
    assert purpose is Purpose.RERANK or found.prompt_tokens == 30 * (1 if purpose is Purpose.CHAT else 8)
    assert (found.first_token_us is not None) == (purpose is Purpose.CHAT)
    assert len(found.decode) == 2
    assert purpose is not Purpose.CHAT or len(steps) == speed.num_steps(sizes)
