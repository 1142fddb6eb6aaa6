"""What is kept for a retry, for how long, and what goes when there is too much of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.core import (
    Caller,
    Delta,
    Finished,
    FinishReason,
    InferenceRequest,
    ModelSpec,
    Principal,
    Role,
    SamplingParams,
    Usage,
)
from appliance.errors import RequestError, Unavailable
from appliance.exchange import Exchange
from appliance.idempotency import Retries, Scope

MODEL = ModelSpec(id="m", sha256="0" * 64, size_bytes=1, path=Path("/nowhere"))
SCOPE = Scope("key", "/v1/chat/completions", "name")
SECOND = 1_000_000


def exchange(text: str = "", *, closed_us: int | None = None) -> Exchange:
    request = InferenceRequest("req", "m", (), SamplingParams())
    made = Exchange(request, Principal("k", "n", Role.KIOSK), Caller(""), MODEL, is_kept=True)
    made.deliver(Delta(text))
    if closed_us is not None:
        made.finish(Finished(FinishReason.STOP, Usage()))
        made.closed_us = closed_us
    return made


def keep(retries: Retries, scope: Scope, kept: Exchange, now_us: int = 0) -> None:
    retries.keep(scope, b"digest", kept, num_body_bytes=10, now_us=now_us)


async def test_the_same_request_finds_its_exchange() -> None:
    """While it runs, and behind its end until its time is over."""
    retries = Retries(keep_seconds=60)
    kept = exchange()
    keep(retries, SCOPE, kept)

    assert retries.find(SCOPE, b"digest", now_us=10_000 * SECOND) is kept
    kept.closed_us = 10_000 * SECOND
    assert retries.find(SCOPE, b"digest", now_us=10_060 * SECOND) is kept
    assert retries.find(SCOPE, b"digest", now_us=10_061 * SECOND) is None
    retries.sweep(now_us=10_061 * SECOND)
    assert len(retries) == 0


async def test_another_request_under_the_key_is_a_conflict() -> None:
    """The error names neither the key nor what was asked."""
    retries = Retries(keep_seconds=60)
    keep(retries, SCOPE, exchange())

    with pytest.raises(RequestError) as conflict:
        retries.find(SCOPE, b"other", now_us=0)
    assert conflict.value.code == "idempotency_conflict"
    assert "name" not in str(conflict.value)
    assert "'name'" not in repr(SCOPE)


@pytest.mark.parametrize(
    "other",
    [
        Scope("another", SCOPE.route, SCOPE.name),
        Scope(SCOPE.key_id, "/v1/completions", SCOPE.name),
        Scope(SCOPE.key_id, SCOPE.route, "other"),
    ],
)
async def test_nobody_meets_the_keys_of_somebody_else(other: Scope) -> None:
    """The same name under another API key, or at another route, is another one."""
    retries = Retries(keep_seconds=60)
    keep(retries, SCOPE, exchange())

    assert retries.find(other, b"digest", now_us=0) is None


async def test_a_failed_exchange_is_forgotten() -> None:
    """Asked again it runs again, also with another body."""
    retries = Retries(keep_seconds=60)
    failed = exchange()
    keep(retries, SCOPE, failed)
    failed.fail(Unavailable("broken", code="engine_failed"))

    assert retries.find(SCOPE, b"other", now_us=0) is None
    again = exchange()
    keep(retries, SCOPE, again)
    assert retries.find(SCOPE, b"digest", now_us=0) is again
    assert len(retries) == 1


async def test_over_the_bounds_the_oldest_finished_ones_go() -> None:
    """What still runs stays: whoever asked it has no other way to its answer."""
    by_number = Retries(keep_seconds=60, max_entries=2)
    by_size = Retries(keep_seconds=60, max_bytes=20_000)
    for retries in (by_number, by_size):
        keep(retries, Scope("k", "r", "running"), exchange())
        for name in ("old", "new"):
            keep(retries, Scope("k", "r", name), exchange("x" * 1500, closed_us=SECOND))
        left = [
            name
            for name in ("running", "old", "new")
            if retries.find(Scope("k", "r", name), b"digest", now_us=SECOND)
        ]
        assert left == ["running", "new"]
