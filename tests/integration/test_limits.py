"""Time limits, several choices and callers who leave: each frees the worker and closes the record once."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance import config
from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.core import (
    Caller,
    ChatMessage,
    Delta,
    InferenceRequest,
    Principal,
    Role,
    SamplingParams,
)
from appliance.errors import ApplianceError, RequestError, Unavailable
from appliance.exchange import Exchange
from appliance.services import Services, run_services
from appliance.statuses import status_of
from appliance.tasks import EmbedTask
from tests.fleets import until_ready
from tests.harness import gateway, question, sse
from tests.homes import make_home
from tests.verifying import verify

pytestmark = pytest.mark.integration
WORKER = [sys.executable, "-m", "tests.fakes.fake_worker"]
SLOW = "please be slow, say 400 tokens"


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Services]:
    home = make_home(tmp_path / "home")
    settings = config.load(home)
    engine = msgspec.structs.replace(settings.engine, max_waiting=2, n_seq_max=4)
    settings = msgspec.structs.replace(settings, engine=engine)
    async with run_services(home, settings, worker_command=WORKER) as running:
        await until_ready(running)
        yield running


def asked(text: str, **changes: Any) -> InferenceRequest:
    fields: dict[str, Any] = {"messages": (ChatMessage("user", text),), "sampling": SamplingParams()}
    return InferenceRequest(**({"request_id": "req_1", "model": "default"} | fields | changes))


def begin(services: Services, request: InferenceRequest | EmbedTask) -> Exchange:
    return services.inference.begin(request, Principal("k", "n", Role.KIOSK), Caller(""))


async def is_idle(services: Services) -> None:
    """Wait until nothing runs in the worker; its figures come once in a while."""
    (engine,) = services.fleet.engines.values()
    async with asyncio.timeout(20):
        while (stats := engine.status.stats) is None or stats.running or stats.waiting:
            await asyncio.sleep(0.02)


def closings(services: Services) -> list[tuple[str, str]]:
    found = query.search(services.home.database, kind=Kind.REQUEST_CLOSED, limit=100)
    return [(str(each.public["outcome"]), str(each.public["code"])) for each in reversed(found)]


async def ended(exchange: Exchange) -> tuple[list[Delta], ApplianceError | None]:
    pieces: list[Delta] = []
    try:
        async for item in exchange.events():
            match item:
                case Delta():
                    pieces.append(item)
    except ApplianceError as error:
        return pieces, error
    return pieces, None


@pytest.mark.parametrize("stream", [True, False])
async def test_all_choices_are_freed_when_their_caller_leaves(services: Services, *, stream: bool) -> None:
    """Three answers run; their caller goes; none runs on, and the record is closed once."""
    exchange = begin(services, asked(SLOW, n=3, stream=stream))
    await exchange.accepted()
    if stream:
        assert isinstance(await anext(exchange.events()), Delta)
    exchange.gone()
    await is_idle(services)
    await services.inference.drain(10)

    assert closings(services) == [("client_gone", "")]
    assert verify(services.home, services.home.database).findings == []


async def test_several_choices_are_one_exchange_on_the_record(services: Services) -> None:
    """Each choice has its own answer; one opening, one closing, and one digest over all of them."""
    exchange = begin(services, asked("echo: word", n=3))
    texts: dict[int, str] = {}
    async for item in exchange.events():
        if isinstance(item, Delta):
            texts[item.index] = texts.get(item.index, "") + item.text
    entries = query.by_request(services.home.database, "req_1")

    assert texts == {0: "word", 1: "word", 2: "word"}
    assert [each.kind for each in entries] == [Kind.REQUEST_OPENED, Kind.REQUEST_CLOSED]


async def test_choices_take_places(services: Services) -> None:
    """Six answers fit: what does not fit now may come again, what never fits is told so, and why."""
    first = begin(services, asked(SLOW, n=4))
    with pytest.raises(Unavailable) as busy:
        begin(services, asked(SLOW, n=3, request_id="req_2"))
    with pytest.raises(RequestError) as never:
        begin(services, asked(SLOW, n=7, request_id="req_3"))
    begin(services, asked("echo: x", n=2, request_id="req_4"))
    first.gone()
    await services.inference.drain(10)
    begin(services, asked("echo: x", n=6, request_id="req_5"))
    await services.inference.drain(10)

    assert (busy.value.code, status_of(busy.value)) == ("overloaded", 503)
    assert (never.value.code, never.value.param, status_of(never.value)) == ("invalid_value", "n", 400)


async def test_a_reproducible_request_has_one_choice(services: Services) -> None:
    """Its trace is that of one answer; more are refused before anything is on the record."""
    for changes in ({"n": 2}, {"prompts": ("a", "b"), "messages": ()}):
        with pytest.raises(RequestError) as refused:
            begin(services, asked("x", reproducible=True, **changes))
        assert refused.value.param == ("n" if "n" in changes else "prompt")


async def test_the_callers_own_limit_ends_an_answer(services: Services) -> None:
    """A stream has what came until then; the record says why it ended, and the worker is free."""
    exchange = begin(services, asked(SLOW, stream=True, timeout_seconds=1.0))
    pieces, error = await ended(exchange)
    await is_idle(services)

    assert pieces
    assert error is not None
    assert (error.code, status_of(error)) == ("timeout", 408)
    assert closings(services) == [("failed", "timeout")]


def test_the_appliances_limit_holds_for_questions_and_tasks(tmp_path: Path) -> None:
    """Whole answers and tasks end with 408 and the appliance's own code; a stream with an error frame."""
    slow = ["please be slow " * 20] * 200
    with (
        gateway(tmp_path / "home", toml="[engine]\nrequest_timeout_seconds = 1\n") as running,
        running.client() as client,
    ):
        whole = client.post("/v1/chat/completions", json=question(SLOW))
        embedded = client.post("/v1/embeddings", json={"model": "default", "input": slow})
        with client.stream("POST", "/v1/chat/completions", json=question(SLOW, stream=True)) as answer:
            frames = list(sse(answer.iter_lines()))
        found = query.search(running.home.database, kind=Kind.REQUEST_CLOSED, limit=10)

    for each in (whole, embedded):
        assert (each.status_code, each.json()["error"]["code"]) == (408, "request_timeout")
        assert "retry-after" not in each.headers
    assert answer.status_code == 200
    assert isinstance(frames[-1], dict)
    assert frames[-1]["error"]["code"] == "request_timeout"
    assert [(each.public["outcome"], each.public["code"]) for each in found] == [
        ("failed", "request_timeout")
    ] * 3
