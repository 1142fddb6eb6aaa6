"""Answers by schema, through a worker process: each fits, or was refused, whatever the schema is.

500 schemas of a seeded generator and some fifty hostile ones, over the fake backend, which chooses at
random what its schema allows; some of them again with the starter model.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from appliance.clock import SystemClock
from appliance.core import (
    ChatMessage,
    Delta,
    Finished,
    FinishReason,
    InferenceRequest,
    ModelSpec,
    SamplingParams,
)
from appliance.engine.messages import Tuning
from appliance.engine.process import DEFAULT_COMMAND
from appliance.engine.supervisor import Engine
from appliance.engine.tunings import TuningStore
from appliance.engine_settings import Engine as EngineSettings
from appliance.errors import RequestError, Unavailable
from tests.schemas import Maker, hostile

FAKE = (sys.executable, "-m", "tests.fakes.fake_worker")
NUM_SCHEMAS, NUM_BY_MODEL = 500, 20
SECONDS = 120.0  # of one request: nobody waits for ever
QUESTION = (ChatMessage("user", "Fill in a form for me, with made-up values."),)
EXPENSIVE = {"tree of choices"}  # for the validator, which looks into each of 2**30 branches
MIB = 1024 * 1024


class Given:
    """A tuning that nobody has to measure."""

    def find(self, _: ModelSpec) -> Tuning:
        return Tuning(flash_attn=True, n_threads=1, n_threads_batch=2)

    def store(self, *_: object) -> None:
        raise AssertionError("nothing was measured")


@asynccontextmanager
async def engine_of(model: Path | None) -> AsyncIterator[Engine]:
    spec = ModelSpec(id="tested", sha256="0" * 64, size_bytes=1, path=model or Path("/nowhere"))
    settings = msgspec.structs.replace(EngineSettings(), n_ctx=4096, n_seq_max=8, max_waiting=32)
    engine = Engine(
        spec,
        settings,
        clock=SystemClock(),
        on_event=lambda _: None,
        command=DEFAULT_COMMAND if model else FAKE,
        tunings=cast("TuningStore", Given()),
    )
    await engine.start()
    try:
        assert await engine.wait_ready(60)
        yield engine
    finally:
        await engine.stop()


async def ask(engine: Engine, name: str, schema: str, *, max_tokens: int, tenant: str) -> str:
    """How it ended: `fits`, `length`, or the code of what refused it."""
    request = InferenceRequest(
        request_id=name,
        model="tested",
        messages=QUESTION,
        sampling=SamplingParams(temperature=0.7, seed=len(name), max_tokens=max_tokens),
        schema=schema,
    )
    text, reason = "", None
    try:
        async with asyncio.timeout(SECONDS):
            async for item in engine.generate(request, tenant=tenant):
                if isinstance(item, Delta):
                    text += item.text
                elif isinstance(item, Finished):
                    reason = item.reason
    except (RequestError, Unavailable) as error:
        return error.code
    if reason is FinishReason.LENGTH:
        return "length"
    if name in EXPENSIVE:
        return "fits"
    Draft202012Validator(json.loads(schema)).validate(json.loads(text))
    return "fits"


async def ask_all(engine: Engine, asked: Iterable[tuple[str, str]], **options: Any) -> dict[str, str]:
    """All of them, several at once; one person without a schema asks on and on beside them."""
    room = asyncio.Semaphore(8)

    async def one(name: str, schema: str) -> tuple[str, str]:
        async with room:
            return name, await ask(engine, name, schema, **options)

    async def beside() -> None:
        for number in itertools.count():
            name = f"beside {options['tenant']} {number}"
            plain = InferenceRequest(name, "tested", QUESTION, SamplingParams(max_tokens=4))
            async with asyncio.timeout(SECONDS):
                async for item in engine.generate(plain, tenant="beside"):
                    if isinstance(item, Finished):
                        assert item.reason in {FinishReason.STOP, FinishReason.LENGTH}

    pid = engine.worker_pid
    neighbour = asyncio.create_task(beside())
    found = dict(await asyncio.gather(*(one(*each) for each in asked)))
    assert not neighbour.done()  # it was answered each time
    neighbour.cancel()
    await asyncio.gather(neighbour, return_exceptions=True)
    assert engine.worker_pid == pid
    assert engine.status.restarts == 0
    return found


def generated(number: int) -> list[tuple[str, str]]:
    return [(f"generated {seed}", json.dumps(Maker(seed).schema())) for seed in range(number)]


async def test_five_hundred_schemas_are_kept_to() -> None:
    """What programs ask for is answered and fits; hardly any is too much."""
    async with engine_of(None) as engine:
        found = await ask_all(engine, generated(NUM_SCHEMAS), max_tokens=1000, tenant="kiosk")
        memory = engine.worker_bytes
    told = Counter(found.values())

    assert told["fits"] >= NUM_SCHEMAS * 0.97, told
    assert set(told) <= {"fits", "length", "unsupported_schema"}
    assert memory is not None
    assert memory < 500 * MIB


async def test_hostile_schemas_end_in_bounded_time() -> None:
    """Each is refused, or fails by itself, or is kept to; the worker lives, and does not grow."""
    asked = hostile()
    assert len(asked) >= 50
    async with engine_of(None) as engine:
        found = await ask_all(engine, asked.items(), max_tokens=200, tenant="hostile")
        again = await ask(engine, "after", '{"const": "still here"}', max_tokens=100, tenant="kiosk")
        memory = engine.worker_bytes

    assert set(found.values()) <= {"fits", "length", "unsupported_schema", "schema_too_complex"}
    assert again == "fits"
    assert memory is not None
    assert memory < 700 * MIB


@pytest.mark.model
@pytest.mark.timeout(400)
async def test_the_starter_model_keeps_to_schemas(starter_model_path: Path) -> None:
    """The same by a real vocabulary: masks of 49,152 tokens, tokens of many bytes."""
    asked = hostile()
    async with engine_of(starter_model_path) as engine:
        found = await ask_all(engine, generated(NUM_BY_MODEL), max_tokens=100, tenant="kiosk")
        attacked = await ask_all(engine, asked.items(), max_tokens=6, tenant="hostile")
        again = await ask(engine, "after", '{"const": "still here"}', max_tokens=100, tenant="kiosk")
        memory = engine.worker_bytes
    told = Counter(found.values())

    assert told["fits"] >= NUM_BY_MODEL * 0.5, told
    assert set(told) <= {"fits", "length"}
    assert set(attacked.values()) <= {"fits", "length", "unsupported_schema", "schema_too_complex"}
    assert again == "fits"
    assert memory is not None
    assert memory < 1500 * MIB
