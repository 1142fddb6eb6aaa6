"""The limiter: nothing is lost, and nothing floods."""

from __future__ import annotations

from appliance.audit.refusals import MAX_ADDRESSES, Counted, RefusalLimiter

SECOND = 1_000_000


def refusal(address: str = "10.0.0.1", code: str = "invalid_api_key") -> Counted:
    return Counted(address=address, code=code, status=401, route="/v1/models")


def test_burst_is_recorded_one_by_one_and_the_rest_is_counted() -> None:
    """Within the burst each refusal stands for itself; the others are one number."""
    limiter = RefusalLimiter(burst=3)
    single = [limiter.admit(refusal(), now_us=0) for _ in range(10)]

    assert single == [True] * 3 + [False] * 7
    assert limiter.flush() == [(refusal(), 7)]
    assert limiter.flush() == []


def test_tokens_come_back_with_time() -> None:
    """After a second the burst is whole again, and never more than whole."""
    limiter = RefusalLimiter(burst=2)
    for _ in range(5):
        limiter.admit(refusal(), now_us=0)

    assert [limiter.admit(refusal(), now_us=10 * SECOND) for _ in range(3)] == [True, True, False]


def test_addresses_do_not_share_until_there_are_too_many() -> None:
    """One flooding address takes nothing from another; a flood of addresses shares one bucket."""
    limiter = RefusalLimiter(burst=1)
    assert limiter.admit(refusal("a"), now_us=0)
    assert not limiter.admit(refusal("a"), now_us=0)
    assert limiter.admit(refusal("b"), now_us=0)

    admitted = sum(limiter.admit(refusal(str(n)), now_us=0) for n in range(3 * MAX_ADDRESSES))
    counted = sum(count for _, count in limiter.flush())
    assert admitted <= MAX_ADDRESSES + 1
    assert admitted + counted == 3 * MAX_ADDRESSES + 1


def test_flood_of_addresses_makes_few_records() -> None:
    """Beyond the shared bucket newcomers are counted together: a flush does not grow with them."""
    limiter = RefusalLimiter(burst=1)
    for n in range(3 * MAX_ADDRESSES):
        limiter.admit(refusal(str(n)), now_us=0)
    counts = limiter.flush()

    assert len(counts) == 1
    assert counts[0][0].address == ""
