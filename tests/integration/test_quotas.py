"""Daily quotas: of UTC's days, counted from the record, and given back by neither a restart nor a crash."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from appliance import config
from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.clock import SystemClock
from appliance.config import Home
from appliance.core import (
    Caller,
    ChatMessage,
    Finished,
    InferenceRequest,
    Principal,
    Role,
    SamplingParams,
)
from appliance.errors import Busy
from appliance.policy.limits import DAY_US
from appliance.services import Services, run_services
from appliance.terms import Limits, Terms
from tests.fleets import until_ready
from tests.harness import gateway, question
from tests.homes import make_home

pytestmark = pytest.mark.integration
WORKER = [sys.executable, "-m", "tests.fakes.fake_worker"]
TEN_TO_MIDNIGHT_US = 20_780 * DAY_US - 600_000_000


class WallClock(SystemClock):
    """The wall clock is the test's; durations are real."""

    def __init__(self, now_us: int) -> None:
        self.put_us = now_us - super().now_us()

    def now_us(self) -> int:
        return super().now_us() + self.put_us


@contextlib.asynccontextmanager
async def serving(home: Home, clock: WallClock) -> AsyncIterator[Services]:
    async with run_services(home, config.load(home), clock=clock, worker_command=WORKER) as running:
        await until_ready(running)
        yield running


async def made_key(services: Services, name: str, **limits: int) -> Principal:
    terms = Terms(limits=Limits(**limits))
    made = await services.administration.create_key(name, Role.KIOSK, terms=terms)
    key = made.new.key
    return Principal(key.id, key.name, key.role, key.terms)


async def asked(services: Services, principal: Principal, number: int) -> Finished:
    request = InferenceRequest(
        request_id=f"req_{number}",
        model="default",
        messages=(ChatMessage("user", "echo: ten words"),),
        sampling=SamplingParams(max_tokens=20),
    )
    exchange = services.inference.begin(request, principal, Caller(""))
    async for item in exchange.events():
        if isinstance(item, Finished):
            return item
    raise AssertionError("no end")


async def test_a_day_ends_at_midnight_utc_and_at_no_restart(tmp_path: Path) -> None:
    """Two requests a day are two: behind a restart, too, and until exactly midnight."""
    home = make_home(tmp_path / "home")
    clock = WallClock(TEN_TO_MIDNIGHT_US)
    async with serving(home, clock) as services:
        by_request = await made_key(services, "by_request", requests_per_day=2)
        by_token = await made_key(services, "by_token", tokens_per_day=1)
        other = await made_key(services, "other", requests_per_day=2)
        for number in (1, 2):
            await asked(services, by_request, number)
        used = (await asked(services, by_token, 3)).usage.total_tokens
        with pytest.raises(Busy) as third:
            await asked(services, by_request, 4)
        before = [services.admitting.usage(each) for each in (by_request, by_token, other)]

    async with serving(home, clock) as services:

        async def counted() -> None:
            while not services.admitting.usage(other).is_known:
                with pytest.raises(Busy) as unknown:
                    await asked(services, by_request, 5)
                assert unknown.value.code in {"usage_unknown", "insufficient_quota"}

        await counted()
        behind = [services.admitting.usage(each) for each in (by_request, by_token, other)]
        refusals = []
        for principal in (by_request, by_token):
            with pytest.raises(Busy) as again:
                await asked(services, principal, 6)
            refusals.append(again.value)
        await asked(services, other, 7)
        clock.put_us += 601_000_000
        for principal, number in ((by_request, 8), (by_token, 9)):
            await asked(services, principal, number)
        next_day = [services.admitting.usage(each) for each in (by_request, by_token)]

    async with serving(home, clock) as services:
        await counted()
        behind_midnight = [services.admitting.usage(each) for each in (by_request, by_token)]

    assert third.value.code == "insufficient_quota"
    assert 500 < third.value.retry_after_seconds <= 600
    had_before = [(each.requests_today, each.tokens_today) for each in before]
    assert had_before == [(2, 2 * used), (1, used), (0, 0)]
    assert [(each.requests_today, each.tokens_today) for each in behind] == had_before
    assert {each.code for each in refusals} == {"insufficient_quota"}
    assert [(each.requests_today, each.tokens_today) for each in next_day] == [(1, used), (1, used)]
    assert [(each.requests_today, each.tokens_today) for each in behind_midnight] == [(1, used)] * 2


def test_a_crash_gives_nothing_back(tmp_path: Path) -> None:
    """An answer that a crash cut off counts as a request, and as tokens of a usual answer."""
    slow = question("please be slow, say 400 tokens", stream=True)
    with gateway(tmp_path / "home") as running:
        by_token, by_request = (
            {"authorization": f"Bearer {running.key(terms=Terms(limits=Limits(**each)))}"}
            for each in ({"tokens_per_day": 400}, {"requests_per_day": 1})
        )
        lines = []
        with contextlib.ExitStack() as held:
            held.enter_context(contextlib.suppress(httpx.TransportError))
            for headers in (by_token, by_request):
                client = held.enter_context(httpx.Client(base_url=running.url, headers=headers))
                answer = held.enter_context(client.stream("POST", "/v1/chat/completions", json=slow))
                lines.append(answer.iter_lines())  # its end would end the connection
                next(lines[-1])
            running.kill()
        running.start()

        def asked(headers: dict[str, str]) -> httpx.Response | None:
            path = f"{running.url}/v1/chat/completions"
            answer = httpx.post(path, json=question("echo: x"), headers=headers)
            is_counted = answer.is_success or answer.json()["error"]["code"] != "usage_unknown"
            return answer if is_counted else None

        told = []
        for headers in (by_token, by_request):
            while (found := asked(headers)) is None:
                time.sleep(0.05)
            told.append(found)
        closings = query.search(running.home.database, kind=Kind.REQUEST_CLOSED, limit=10)

    assert "recovered" in {str(each.public["outcome"]) for each in closings}
    for each in told:
        assert (each.status_code, each.json()["error"]["code"]) == (429, "insufficient_quota")
        assert each.headers["x-should-retry"] == "false"
        assert 1 <= int(each.headers["retry-after"]) <= 86_400
    assert len(told) == 2
