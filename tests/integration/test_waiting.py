"""Who waits for a turn, and who is refused: bounded, fair, told the truth, and on the record."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.commands import ListKeys
from appliance.core import Role
from appliance.terms import Limits, Terms
from tests.harness import Gateway, gateway, gauge_of, question, wait_until

pytestmark = pytest.mark.integration
# Of n_seq_max = 4 the worker has one more than it runs; running and waiting are bounded together.
PLACES, WAITING, INSIDE = 5, 6, 10
TOML = f"[engine]\nn_seq_max = 4\nmax_waiting = {WAITING}\n[limits]\nmax_wait_seconds = 20\n"
SLOW = "please be slow, say 12 tokens"
FLOOD = 24


@contextlib.contextmanager
def busy(root: Path, *, toml: str = TOML, text: str = "please be slow, say 400 tokens") -> Iterator[Gateway]:
    """A gateway whose every place is taken by answers that do not end by themselves."""
    with gateway(root, toml=toml) as running, contextlib.ExitStack() as held:
        for _ in range(PLACES):
            client = held.enter_context(running.client())
            body = question(text, stream=True)
            answer = held.enter_context(client.stream("POST", "/v1/chat/completions", json=body))
            assert answer.status_code == 200
        yield running


def key_with(running: Gateway, **limits: int) -> dict[str, str]:
    token = running.key(Role.KIOSK, terms=Terms(limits=Limits(**limits)))
    return {"authorization": f"Bearer {token}"}


def asked(running: Gateway, headers: dict[str, str], text: str = "echo: x", **options: Any) -> httpx.Response:
    url = f"{running.url}/v1/chat/completions"
    return httpx.post(url, json=question(text, **options), headers=headers, timeout=30)


def refused(running: Gateway) -> Counter[str]:
    """Refusals by code as the record counts them."""
    counts: Counter[str] = Counter()
    for each in query.search(running.home.database, kind=Kind.REQUEST_REFUSED, limit=100_000):
        counts[str(each.public["code"])] += int(each.public["count"])
    return counts


def gauge(running: Gateway, name: str) -> float:
    """The sum over all labels."""
    with running.client(Role.OPERATOR) as client:
        return gauge_of(client.get("/metrics").text, name)


def test_a_flooding_key_takes_nobodys_place_and_each_refusal_is_counted(tmp_path: Path) -> None:
    """While one key asks without end, another's every question is answered; the line keeps to its bound."""
    seen: list[float] = []
    statuses: Counter[tuple[str, int, str]] = Counter()

    async def ask(client: httpx.AsyncClient, who: str, headers: dict[str, str]) -> None:
        response = await client.post("/v1/chat/completions", json=question(SLOW), headers=headers)
        code = "" if response.is_success else response.json()["error"]["code"]
        statuses[who, response.status_code, code] += 1
        if not response.is_success:
            assert "retry-after" in response.headers, response.text
            assert int(response.headers["retry-after"]) >= 1
            assert int(response.headers["retry-after-ms"]) <= 1000 * int(response.headers["retry-after"])
            assert 0 <= int(response.headers["x-queue-position"]) <= INSIDE

    async def crowd(running: Gateway, flood: dict[str, str], quiet: dict[str, str]) -> None:
        limits = httpx.Limits(max_connections=FLOOD + 4)
        async with httpx.AsyncClient(base_url=running.url, timeout=60, limits=limits) as client:
            is_over = asyncio.Event()

            async def again_and_again() -> None:
                while not is_over.is_set():
                    await ask(client, "flood", flood)
                    await asyncio.sleep(0.05)

            async def look() -> None:
                while not is_over.is_set():
                    seen.append(await asyncio.to_thread(gauge, running, "appliance_queue_waiting"))
                    await asyncio.sleep(0.05)

            tasks = [asyncio.create_task(each()) for each in (*[again_and_again] * FLOOD, look)]
            await asyncio.sleep(1)
            await asyncio.gather(*(ask(client, "quiet", quiet) for _ in range(2)))
            for _ in range(3):
                await ask(client, "quiet", quiet)
            is_over.set()
            await asyncio.gather(*tasks)

    with gateway(tmp_path / "home", toml=TOML) as running:
        running.key(Role.OPERATOR)
        asyncio.run(crowd(running, key_with(running, concurrency=500), key_with(running, concurrency=500)))
        running.stop()
        on_record = refused(running)

    sent: Counter[str] = Counter()
    for (_, status, code), count in statuses.items():
        if status != 200:
            sent[code] += count
    assert {key: n for key, n in statuses.items() if key[0] == "quiet"} == {("quiet", 200, ""): 5}
    assert statuses["flood", 200, ""] > 0
    assert set(sent) <= {"overloaded", "queue_share_exceeded"}
    assert sent == on_record
    assert sent["overloaded"] > 0  # alone it may have the whole line
    assert 0 < max(seen) <= INSIDE


def test_who_leaves_the_line_is_refused_on_the_record(tmp_path: Path) -> None:
    """It has no opening, since it never had a turn; its place in the line is free again."""
    with busy(tmp_path / "home") as running:
        with running.client() as client, pytest.raises(httpx.ReadTimeout):
            client.post("/v1/chat/completions", json=question("echo: x"), timeout=0.5)
        wait_until(lambda: refused(running) == {"left_queue": 1})
        wait_until(lambda: gauge(running, "appliance_queue_waiting") == 0)
        opened = query.search(running.home.database, kind=Kind.REQUEST_OPENED, limit=100)

    assert len(opened) == PLACES


def test_a_turn_that_does_not_come_in_time_ends_with_the_truth(tmp_path: Path) -> None:
    """503 `queue_timeout` with its position; or the request's own `timeout`, where that is shorter."""
    toml = TOML.replace("max_wait_seconds = 20", "max_wait_seconds = 2")
    with busy(tmp_path / "home", toml=toml) as running, running.client() as client:
        began = time.monotonic()
        late = client.post("/v1/chat/completions", json=question("echo: x"))
        waited = time.monotonic() - began
        own = client.post("/v1/chat/completions", json=question("echo: x", timeout=0.5))
        counted = client.post("/tokenize", json={"content": "x"})
        wait_until(lambda: sum(refused(running).values()) == 2)
        codes = refused(running)

    assert (late.status_code, late.json()["error"]["code"]) == (503, "queue_timeout")
    assert "0 requests are before this one" in late.json()["error"]["message"]
    assert (late.headers["x-queue-position"], late.headers["x-should-retry"]) == ("0", "true")
    assert waited >= 2
    assert (own.status_code, own.json()["error"]["code"]) == (408, "timeout")
    assert counted.status_code == 200  # it costs the model no time
    assert codes == {"queue_timeout": 1, "timeout": 1}


def test_an_urgent_key_has_its_turn_first(tmp_path: Path) -> None:
    """Who comes later and is more urgent is let in before whoever waits."""
    order: list[str] = []

    async def ask(client: httpx.AsyncClient, who: str, headers: dict[str, str]) -> None:
        async with client.stream(
            "POST", "/v1/chat/completions", json=question("echo: x", stream=True), headers=headers
        ):
            order.append(who)

    async def both(running: Gateway, patient: dict[str, str], urgent: dict[str, str]) -> None:
        async with httpx.AsyncClient(base_url=running.url, timeout=60) as client:
            first = [asyncio.create_task(ask(client, "patient", patient)) for _ in range(2)]
            while await asyncio.to_thread(gauge, running, "appliance_queue_waiting") < 2:
                await asyncio.sleep(0.02)
            await asyncio.gather(*first, ask(client, "urgent", urgent))

    toml = TOML.replace("n_seq_max = 4", "n_seq_max = 1")
    with gateway(tmp_path / "home", toml=toml) as running, contextlib.ExitStack() as held:
        running.key(Role.OPERATOR)
        patient, urgent = key_with(running, priority=0), key_with(running, priority=9)
        for _ in range(2):
            client = held.enter_context(running.client())
            body = question("please be slow, say 60 tokens", stream=True)
            assert held.enter_context(client.stream("POST", "/v1/chat/completions", json=body)).is_success
        asyncio.run(both(running, patient, urgent))

    assert order[0] == "urgent"
    assert Counter(order) == {"urgent": 1, "patient": 2}


def test_limits_by_the_minute_are_told_and_kept(tmp_path: Path) -> None:
    """Headers count down, 429 says when to come back, and what was refused uses nothing up."""
    with gateway(tmp_path / "home") as running:
        headers = key_with(running, requests_per_minute=2, tokens_per_minute=100_000)
        first, second, third, fourth = (asked(running, headers, max_tokens=8) for _ in range(4))
        greedy = key_with(running, tokens_per_minute=50)
        long = asked(running, greedy, "say 60 tokens", max_tokens=60)
        over = asked(running, greedy, max_tokens=8)
        unlimited = asked(running, {"authorization": f"Bearer {running.key(Role.DEVELOPER)}"})
        counted = [each["today"] for each in running.command(ListKeys())["keys"]]

    told = [first.headers[f"x-ratelimit-{each}-requests"] for each in ("limit", "remaining")]
    assert (first.status_code, told) == (200, ["2", "1"])
    assert second.headers["x-ratelimit-remaining-requests"] == "0"
    assert first.headers["x-ratelimit-limit-tokens"] == "100000"
    assert 99_000 < int(first.headers["x-ratelimit-remaining-tokens"]) < 100_000
    for each in (third, fourth):
        assert (each.status_code, each.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert each.json()["error"]["type"] == "rate_limit_error"
        assert 1 <= int(each.headers["retry-after"]) <= 30
        assert 0 < int(each.headers["retry-after-ms"]) <= 30_000
        assert each.headers["x-ratelimit-remaining-requests"] == "0"
    assert (long.status_code, over.status_code) == (200, 429)
    assert over.json()["error"]["code"] == "tokens_limit_exceeded"
    assert int(over.headers["retry-after"]) > 30
    assert unlimited.headers["x-ratelimit-limit-requests"] == "600"
    assert [each["requests"] for each in counted] == [2, 1, 1]
    assert [each["answers_at_once"] for each in counted] == [0, 0, 0]
    assert counted[1]["tokens"] > 50
    assert "x-ratelimit-limit-tokens" not in unlimited.headers


def test_answers_at_once_are_counted_by_choice(tmp_path: Path) -> None:
    """A key's concurrency holds for choices, running and waiting; too many for ever are a mistake."""
    with busy(tmp_path / "home") as running:
        headers = key_with(running, concurrency=2)
        never = asked(running, headers, n=3)

        async def several() -> list[httpx.Response]:
            async with httpx.AsyncClient(base_url=running.url, headers=headers, timeout=30) as client:
                path = "/v1/chat/completions"
                waiting = asyncio.create_task(client.post(path, json=question("echo: x", n=2, timeout=2.0)))
                while await asyncio.to_thread(gauge, running, "appliance_queue_waiting") < 1:
                    await asyncio.sleep(0.02)
                return [await client.post(path, json=question("echo: x")), await waiting]

        over, waited = asyncio.run(several())

    assert (never.status_code, never.json()["error"]["param"]) == (400, "n")
    assert (over.status_code, over.json()["error"]["code"]) == (429, "concurrency_limit_exceeded")
    assert waited.status_code == 408
