"""A key's limits: each branch is a row; buckets, reservations and days with times that the test makes."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.core import ChatMessage, InferenceRequest, SamplingParams, Tool, Tooling
from appliance.policy import limits
from appliance.policy.limits import DAY_US, MINUTE_US, UNKNOWN_TOKENS, Asked, Bucket, Had
from appliance.tasks import DetokenizeTask, EmbedTask, RankTask, TokenizeTask
from appliance.terms import Limits

ONE = Asked(num_answers=1, num_tokens=100)
MIDNIGHT_US = 3_600_000_000
TURN_US = 1_500_000


def decided(own: Limits, had: Had, asked: Asked = ONE, **options: Any) -> tuple[str, int | None] | None:
    found = limits.decide(own, had, asked, midnight_us=MIDNIGHT_US, turn_us=TURN_US, **options)
    return None if found is None else (found.code, found.wait_us)


def later(had: Had, own: Limits, seconds: float) -> Had:
    now_us = had.at_us + int(seconds * 1e6)
    return limits.at(had, own, now_us=now_us, day=had.day)


@pytest.mark.parametrize(
    ("own", "had", "code", "wait_us"),
    [
        ({"requests_per_day": 3}, {"day_requests": 3}, "insufficient_quota", MIDNIGHT_US),
        ({"tokens_per_day": 500}, {"day_tokens": 500}, "insufficient_quota", MIDNIGHT_US),
        ({"tokens_per_day": 500}, {"day_tokens": 400, "reserved": 100}, "insufficient_quota", MIDNIGHT_US),
        ({"concurrency": 2}, {"at_once": 2}, "concurrency_limit_exceeded", TURN_US),
        ({"requests_per_minute": 60}, {"requests": 60.0}, "rate_limit_exceeded", 1_000_000),
        ({"requests_per_minute": 60}, {"requests": 59.5}, "rate_limit_exceeded", 500_000),
        ({"tokens_per_minute": 6000}, {"tokens": 6000.0}, "tokens_limit_exceeded", 1_000_000),
        ({"tokens_per_minute": 6000}, {"tokens": 7900.0}, "tokens_limit_exceeded", 20_000_000),
        (
            {"requests_per_day": 3, "concurrency": 1},
            {"day_requests": 9, "at_once": 1},
            "insufficient_quota",
            None,
        ),
    ],
)
def test_each_limit_refuses_with_its_own_code(
    own: dict[str, int], had: dict[str, Any], code: str, wait_us: int | None
) -> None:
    """What is used up is named; the time until it is not is exact."""
    assert decided(Limits(**own), Had(**had)) == (code, MIDNIGHT_US if wait_us is None else wait_us)


@pytest.mark.parametrize(
    ("own", "had"),
    [
        ({}, {"requests": 1e9, "tokens": 1e9, "day_requests": 10**6, "day_tokens": 10**9, "at_once": 500}),
        ({"requests_per_day": 3}, {"day_requests": 2}),
        ({"tokens_per_day": 500}, {"day_tokens": 499}),
        ({"concurrency": 2}, {"at_once": 1}),
        ({"requests_per_minute": 60}, {"requests": 59.0}),
        ({"tokens_per_minute": 6000}, {"tokens": 5900.0}),
    ],
)
def test_the_last_one_of_a_limit_is_admitted(own: dict[str, int], had: dict[str, Any]) -> None:
    """A limit of three is three, and no limit is none."""
    assert decided(Limits(**own), Had(**had)) is None


def test_the_wait_that_is_told_is_enough_and_not_too_long() -> None:
    """Whoever comes back when told is admitted, and a moment before would not be."""
    own = Limits(requests_per_minute=7, tokens_per_minute=900)
    for had in (Had(requests=7.0), Had(requests=6.2), Had(tokens=1700.0)):
        told = decided(own, had)
        assert told is not None
        assert told[1] is not None
        assert decided(own, later(had, own, told[1] / 1e6)) is None
        early = decided(own, later(had, own, (told[1] - 10_000) / 1e6))
        assert early is not None
        assert early[0] == told[0]
        assert early[1] == pytest.approx(10_000, abs=5)


def test_more_choices_than_a_key_may_ever_have_are_not_told_to_wait() -> None:
    """It is the caller's mistake, and the parameter is named."""
    found = limits.decide(Limits(concurrency=2), Had(), Asked(3, 1), midnight_us=MIDNIGHT_US, turn_us=TURN_US)

    assert found is not None
    assert (found.code, found.wait_us, found.param) == ("invalid_value", None, "n")


def test_a_quota_waits_until_today_is_counted() -> None:
    """Before the record was read nobody with a quota is admitted; who has none does not notice."""
    assert decided(Limits(tokens_per_day=9), Had(), knows_day=False) == ("usage_unknown", 2_000_000)
    assert decided(Limits(requests_per_day=9), Had(), knows_day=False) == ("usage_unknown", 2_000_000)
    assert decided(Limits(requests_per_minute=9), Had(), knows_day=False) is None


def test_a_quiet_key_has_a_minutes_worth_at_once_and_then_an_even_rate() -> None:
    """Sixty a minute: sixty at once, then one a second."""
    own, had = Limits(requests_per_minute=60), Had()
    for _ in range(60):
        assert decided(own, had) is None
        had = limits.admitted(had, ONE)
    assert decided(own, had) == ("rate_limit_exceeded", 1_000_000)
    had = later(had, own, 2.0)
    for _ in range(2):
        assert decided(own, had) is None
        had = limits.admitted(had, ONE)
    assert decided(own, had) == ("rate_limit_exceeded", 1_000_000)


def test_what_was_reserved_too_much_is_given_back_and_too_little_is_made_up_for() -> None:
    """The bucket holds what answers cost, not what they might have cost; also below its bottom."""
    own = Limits(tokens_per_minute=1000)
    had = limits.admitted(Had(), Asked(1, 900))
    assert decided(own, had, Asked(1, 200)) == ("tokens_limit_exceeded", 6_000_000)

    cheap = limits.ended(had, Asked(1, 900), num_tokens=50)
    dear = limits.ended(had, Asked(1, 900), num_tokens=3000)

    assert decided(own, cheap, Asked(1, 900)) is None
    assert decided(own, dear, Asked(1, 1)) == ("tokens_limit_exceeded", 2001 * MINUTE_US // 1000)
    assert (cheap.day_tokens, dear.day_tokens, cheap.reserved, dear.reserved) == (50, 3000, 0, 0)
    assert limits.buckets(own, dear) == {"tokens": Bucket(1000, 0, 3 * MINUTE_US)}


def test_who_reserves_more_than_a_bucket_holds_is_admitted_by_a_full_one() -> None:
    """A large request is no reason to refuse for ever: it waits until nothing of the bucket is used."""
    own, large = Limits(tokens_per_minute=1000), Asked(1, 5000)

    assert decided(own, Had(), large) is None
    assert decided(own, Had(tokens=1.0), large) == ("tokens_limit_exceeded", 60_000)


def test_a_day_begins_at_midnight_utc_and_none_begins_when_a_clock_is_put_back() -> None:
    """Counts of the day begin anew, what runs stays reserved; buckets know nothing of days."""
    own = Limits(requests_per_day=1, requests_per_minute=60)
    had = limits.admitted(Had(day=limits.day_of(20_000 * DAY_US - 1)), ONE)
    assert had.day == 19_999
    assert decided(own, limits.at(had, own, now_us=0, day=19_999)) == ("insufficient_quota", MIDNIGHT_US)

    next_day = limits.at(had, own, now_us=0, day=limits.day_of(20_000 * DAY_US))
    put_back = limits.at(limits.admitted(next_day, ONE), own, now_us=0, day=19_999)

    assert decided(own, next_day) is None
    assert (next_day.day_requests, next_day.reserved, next_day.at_once, next_day.requests) == (0, 100, 1, 1.0)
    assert (put_back.day, put_back.day_requests) == (20_000, 1)
    assert limits.ended(next_day, ONE, num_tokens=70).day_tokens == 70


def test_what_was_never_begun_uses_nothing_up() -> None:
    """A request whose turn did not come is given back; one that left keeps its request of the minute."""
    had = limits.admitted(Had(day=5), ONE)
    ours = limits.withdrawn(had, ONE, is_ours=True, day=5)
    left = limits.withdrawn(had, ONE, is_ours=False, day=5)
    next_day = limits.at(had, Limits(requests_per_minute=1), now_us=0, day=6)
    over_midnight = limits.withdrawn(limits.admitted(next_day, ONE), ONE, is_ours=True, day=5)

    assert ours == Had(day=5)
    assert left == Had(day=5, requests=1.0)
    assert over_midnight.day_requests == 1


def test_a_keys_own_number_takes_the_place_of_its_roles() -> None:
    """Larger or smaller; what the key does not say is its role's."""
    role = Limits(requests_per_minute=60, concurrency=4, priority=6)
    own = Limits(requests_per_minute=600, concurrency=1)

    assert limits.effective(own, role) == Limits(requests_per_minute=600, concurrency=1, priority=6)
    assert limits.effective(Limits(), role) == role


def asked(**fields: Any) -> Asked:
    given: dict[str, Any] = {"request_id": "r", "model": "m", "messages": (), "sampling": SamplingParams()}
    return limits.asked_of(InferenceRequest(**given | fields))


def test_a_request_reserves_its_prompt_and_what_it_may_be_answered() -> None:
    """Each choice has its answer; where no length is named a usual one is taken."""
    said = (ChatMessage("user", "x" * 300),)
    tooling = Tooling((Tool("f", "d" * 30, "{}" + " " * 28),))

    assert asked(messages=said) == Asked(1, 108 + UNKNOWN_TOKENS)
    assert asked(messages=said, sampling=SamplingParams(max_tokens=40), n=3) == Asked(3, 108 + 120)
    assert asked(prompts=((1, 2, 3), "y" * 30), sampling=SamplingParams(max_tokens=1)) == Asked(2, 3 + 11 + 2)
    assert asked(messages=said, tooling=tooling, sampling=SamplingParams(max_tokens=1)) == Asked(
        1, 108 + 20 + 1
    )


def test_tasks_reserve_what_the_model_computes_of_them() -> None:
    """Embeddings and rankings read their inputs; counting tokens costs the model nothing."""
    embed = EmbedTask(request_id="r", model="m", inputs=("z" * 30, (1, 2)))
    rank = RankTask(request_id="r", model="m", query="q" * 3, documents=("d" * 9, "e" * 9))
    free = (
        TokenizeTask(request_id="r", model="m", source="z" * 99),
        DetokenizeTask(request_id="r", model="m", tokens=(1, 2)),
    )

    assert limits.asked_of(embed) == Asked(1, 11 + 2)
    assert limits.asked_of(rank) == Asked(1, 2 * (2 + 4))
    assert [limits.asked_of(each) for each in free] == [Asked(1, 0)] * 2
