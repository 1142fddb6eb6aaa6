"""The engine around a real worker process: life, death, and what callers see of it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.clock import SystemClock
from appliance.core import (
    ChatMessage,
    Delta,
    Finished,
    InferenceRequest,
    ModelSpec,
    SamplingParams,
    Started,
)
from appliance.engine import process, supervisor
from appliance.engine.events import EngineEvent, ModelFailed, ModelLoaded, ModelUnloaded
from appliance.engine.status import State
from appliance.engine.supervisor import Engine
from appliance.engine_settings import Engine as EngineSettings
from appliance.errors import RequestError, Unavailable

FAKE = (sys.executable, "-m", "tests.fakes.fake_worker")
SPEC = ModelSpec(id="fake", sha256="0" * 64, size_bytes=1, path=Path("/nowhere"))


def ask(text: str, request_id: str = "req_1", **options: Any) -> InferenceRequest:
    return InferenceRequest(request_id, "fake", (ChatMessage("user", text),), SamplingParams(**options))


@asynccontextmanager
async def running(
    command: tuple[str, ...] = FAKE, **options: Any
) -> AsyncIterator[tuple[Engine, list[EngineEvent]]]:
    events: list[EngineEvent] = []
    settings = msgspec.structs.replace(EngineSettings(), **options)
    engine = Engine(SPEC, settings, clock=SystemClock(), on_event=events.append, command=command)
    await engine.start()
    try:
        await engine.wait_ready(20)
        yield engine, events
    finally:
        await engine.stop()


async def collect(engine: Engine, request: InferenceRequest) -> tuple[str, Finished]:
    text = ""
    async for item in engine.generate(request):
        if isinstance(item, Delta):
            text += item.text
        if isinstance(item, Finished):
            return text, item
    raise AssertionError("no terminal event")


def worker_pid(engine: Engine) -> int:
    assert engine.worker_pid is not None
    return engine.worker_pid


async def until(condition: Any, seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def test_life_and_events() -> None:
    """Ready after start, answers, unloaded at stop, and the process is gone."""
    async with running() as (engine, events):
        pid = worker_pid(engine)
        text, end = await collect(engine, ask("echo: hi"))
        assert (text, end.reason) == ("hi", "stop")
        assert engine.status.state is State.READY
    assert [type(event) for event in events] == [ModelLoaded, ModelUnloaded]
    assert not Path(f"/proc/{pid}").exists()


async def test_many_requests_share_the_worker() -> None:
    """Concurrent generators each get their own answer."""
    async with running() as (engine, _):
        answers = await asyncio.gather(
            *(collect(engine, ask(f"echo: number {n}", f"req_{n}")) for n in range(20))
        )
    assert [text for text, _ in answers] == [f"number {n}" for n in range(20)]


async def test_death_fails_its_requests_and_is_repaired() -> None:
    """Callers hear of it at once; the next worker answers."""
    async with running() as (engine, events):
        stream = engine.generate(ask("please be slow; say 400 tokens"))
        assert isinstance(await anext(stream), Started)
        await anext(stream)
        os.kill(worker_pid(engine), signal.SIGKILL)
        with pytest.raises(Unavailable) as failed:
            async with asyncio.timeout(1):
                async for _ in stream:
                    pass
        assert failed.value.code == "engine_failed"
        with pytest.raises(Unavailable) as refused:
            await anext(engine.generate(ask("echo: x")))
        assert refused.value.code == "model_not_ready"
        await until(lambda: engine.is_ready)
        assert (await collect(engine, ask("echo: again")))[0] == "again"
        assert engine.status.restarts == 1
    assert [type(event) for event in events] == [ModelLoaded, ModelFailed, ModelLoaded, ModelUnloaded]


async def test_load_that_fails_says_why_and_is_tried_again() -> None:
    """The worker's own words are in the status; back-off goes on."""
    words = "import sys; sys.stderr.write('no such tensor\\n'); sys.exit(3)"
    async with running((sys.executable, "-c", words)) as (engine, events):
        assert not engine.is_ready
        assert "no such tensor" in engine.status.last_error
        await until(lambda: engine.status.restarts >= 2)
    assert {type(event) for event in events} == {ModelFailed, ModelUnloaded}


async def test_words_after_ready_are_not_kept() -> None:
    """A worker that has seen prompts can not speak into the operator's log, but for assertions."""
    async with running() as (engine, _):
        with pytest.raises(Unavailable):
            await collect(engine, ask("please fail with secret words"))
        await until(lambda: engine.status.restarts == 1)
        assert "secret" not in engine.status.last_error
        assert "Traceback" not in engine.status.last_error


async def test_closing_a_generator_frees_its_sequence() -> None:
    """A caller who leaves stops the decoding for them, and for nobody else."""
    async with running(n_seq_max=1) as (engine, _):
        async with aclosing(engine.generate(ask("please be slow; say 4000 tokens"))) as stream:
            await anext(stream)
            await anext(stream)
        text, _ = await asyncio.wait_for(collect(engine, ask("echo: my turn", "req_2")), 3)
        assert text == "my turn"


async def test_stop_leaves_no_process_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that does not react is killed, whether it was answering or still loading."""
    monkeypatch.setattr(supervisor, "STOP_GRACE_SECONDS", 0.2)
    async with running() as (frozen, _):
        pid = worker_pid(frozen)
        os.kill(pid, signal.SIGSTOP)
    assert not Path(f"/proc/{pid}").exists()

    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    engine = Engine(
        SPEC,
        EngineSettings(),
        clock=SystemClock(),
        on_event=lambda _: None,
        command=(sys.executable, "-c", deaf),
    )
    await engine.start()
    await until(lambda: engine._worker is not None)
    pid = worker_pid(engine)
    await engine.stop()

    assert not Path(f"/proc/{pid}").exists()
    assert engine.status.state is State.STOPPED


async def test_refusals_of_the_worker_are_request_errors() -> None:
    """Context and template problems carry their code and parameter."""
    turns = (ChatMessage("system", "a"), ChatMessage("system", "b"))
    twice = InferenceRequest("req_1", "fake", turns, SamplingParams())
    async with running() as (engine, _):
        for request, code in ((ask("x" * 20_000), "context_length_exceeded"), (twice, "template_error")):
            with pytest.raises(RequestError) as refused:
                await collect(engine, request)
            assert (refused.value.code, refused.value.param) == (code, "messages")


def test_worker_environment_holds_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a few names pass into the worker's environment."""
    monkeypatch.setenv("APPLIANCE_SECRET", "canary")
    monkeypatch.setenv("LD_PRELOAD", "canary.so")
    handed_down = process.environment()

    assert "PATH" in handed_down
    assert "canary" not in "".join(handed_down.values())


@pytest.mark.parametrize("moment", range(6))
async def test_stop_ends_a_life_at_every_moment_of_its_failure(moment: int) -> None:
    """A model that can not be loaded is stopped at once, also while its worker is being put away."""
    engine = Engine(
        SPEC,
        EngineSettings(),
        clock=SystemClock(),
        on_event=lambda _event: None,
        command=[sys.executable, "-c", "import time; time.sleep(0.05)"],
    )
    await engine.start()
    await engine.wait_ready(10)
    for _ in range(moment):
        await asyncio.sleep(0)
    async with asyncio.timeout(5) as patience:
        await engine.stop()

    assert not patience.expired()
    assert engine.status.state is State.STOPPED
