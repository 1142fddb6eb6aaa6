"""Callers who leave at any moment: each opening gets its one closing, and no piece outruns the record."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from typing import Literal

import msgspec
import pytest

from appliance import config
from appliance.accounts.documents import Library
from appliance.admitting import Admitting
from appliance.alone import open_log_alone
from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.catalog import Catalog
from appliance.config import Home
from appliance.core import (
    Adapter,
    Caller,
    ChatMessage,
    Delta,
    Finished,
    FinishReason,
    InferenceRequest,
    Principal,
    Role,
    SamplingParams,
    Started,
    Usage,
)
from appliance.engine.status import EngineStatus, State
from appliance.errors import ApplianceError, Unavailable
from appliance.guarding import Guarding
from appliance.inference import Inference
from appliance.metrics import Metrics
from tests.clocks import ManualClock
from tests.fleets import settled
from tests.verifying import verify

NUM_EXCHANGES = 150


class RandomEngine:
    """Answers of random length, with a pause or none behind each token; some break off."""

    is_ready = True
    dialect = "plain"
    status = EngineStatus(State.READY, None, 0, "", None)

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    async def generate(
        self, request: InferenceRequest, *, tenant: str, adapter: Adapter | None
    ) -> AsyncGenerator[Started | Delta | Finished, None]:
        del tenant, adapter
        for choice in range(request.n):
            yield Started(prompt_tokens=3, index=choice)
        num_tokens = self._chance.randrange(12)
        for _ in range(num_tokens):
            await asyncio.sleep(self._chance.choice((0, 0, 0.001, 0.01)))
            yield Delta("tok ", index=self._chance.randrange(request.n))
        if self._chance.random() < 0.1:
            raise Unavailable("broken", code="engine_failed")
        reasons = (FinishReason.STOP,) * request.n
        yield Finished(FinishReason.STOP, Usage(3, num_tokens), reasons=reasons)


@pytest.mark.parametrize("mode", ["strict", "final"])
async def test_callers_leave_whenever_they_like(home: Home, mode: Literal["strict", "final"]) -> None:
    """Whatever was delivered is on the record, every record is closed once, and verify is green."""
    chance = random.Random(mode)
    limits = config.parse("[limits.kiosk]\nconcurrency = 0").limits
    settings = msgspec.structs.replace(config.load(home), limits=limits)
    clock = ManualClock()
    catalog = Catalog.load(home=home, default_model=settings.default_model)
    with open_log_alone(home, settings, clock) as alone:
        fleet = settled({settings.default_model: RandomEngine(chance)})
        metrics = Metrics()
        inference = Inference(
            audit=alone.audit,
            catalog=catalog,
            fleet=fleet,
            admitting=Admitting(settings, fleet=fleet, clock=clock, metrics=metrics),
            guarding=Guarding(Library(), Metrics()),
            engine_settings=settings.engine,
            audit_settings=msgspec.structs.replace(settings.audit, stream=mode, segment_ms=10),
            clock=clock,
            metrics=metrics,
        )

        begun = []

        async def one(number: int) -> None:
            request = InferenceRequest(
                request_id=f"req_{number}",
                model="default",
                messages=(ChatMessage("user", "x"),),
                sampling=SamplingParams(),
                n=chance.choice((1, 1, 3)),
                stream=chance.random() < 0.7,
            )
            exchange = inference.begin(request, Principal("k", "n", Role.KIOSK), Caller(""))

            async def read() -> None:
                await exchange.accepted()
                num_pieces = 0
                async for item in exchange.events():
                    num_pieces += isinstance(item, Delta)
                    if mode == "strict":
                        durable = [each.kind for each in query.by_request(home.database, request.request_id)]
                        # Each piece in a segment; the tail, a piece for each choice, in the closing.
                        num_tails = request.n * durable.count(Kind.REQUEST_CLOSED)
                        assert num_pieces <= durable.count(Kind.REQUEST_SEGMENT) + num_tails

            reading = asyncio.ensure_future(read())
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(chance.choice((0, 0.001, 0.005, 0.02)))
            if chance.random() < 0.6:
                exchange.gone()
                reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            begun.append(exchange)
            assert reading.cancelled() or isinstance(reading.exception(), ApplianceError | None)

        await asyncio.gather(*(one(number) for number in range(NUM_EXCHANGES)))
        await inference.drain(10)
    closings = query.search(home.database, kind=Kind.REQUEST_CLOSED, limit=1000)

    # Who left before it was their turn was refused, and has no opening.
    opened = {each.request.request_id for each in begun if each.receipt is not None}
    assert len(begun) == NUM_EXCHANGES
    assert len(opened) == len(closings) > NUM_EXCHANGES // 4
    assert {each.request_id for each in closings} == opened
    assert {str(each.public["outcome"]) for each in closings} == {"stop", "failed", "client_gone"}
    assert verify(home, home.database).findings == []
