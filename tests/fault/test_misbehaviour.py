"""A worker that is led to do what no worker does: ended by its sandbox, on the record, and not for ever."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import pytest

from appliance.audit import query
from appliance.audit.kinds import Kind
from appliance.clock import SystemClock
from appliance.config import Home
from appliance.core import Role
from appliance.engine import conduct
from appliance.engine.events import EngineEvent, ModelFailed, ModelLoaded
from appliance.engine.status import State
from appliance.engine.supervisor import Engine
from appliance.engine_settings import Engine as EngineSettings
from appliance.errors import Unavailable
from tests import records
from tests.fakes.misbehaving_worker import ACTS
from tests.harness import Gateway, wait_until
from tests.homes import make_home
from tests.needed import missing
from tests.unit.engine.test_supervisor import SPEC, ask, collect, until

PROGRAM = (sys.executable, "-m", "tests.fakes.misbehaving_worker")
CONTROL = (*PROGRAM, "--unconfined")
# Only root may, of another process or another user's file.
ROOTS = {"read_passwords", "trace_gateway", "read_gateway"}


@asynccontextmanager
async def running(command: tuple[str, ...]) -> AsyncIterator[tuple[Engine, list[EngineEvent]]]:
    events: list[EngineEvent] = []
    engine = Engine(SPEC, EngineSettings(), clock=SystemClock(), on_event=events.append, command=command)
    await engine.start()
    try:
        await engine.wait_ready(20)
        yield engine, events
    finally:
        await engine.stop()


@contextmanager
def home_of(root: Path) -> Iterator[Path]:
    """A home with what a worker could reach for: a key, and the gateway's own socket."""
    (root / "keys").mkdir()
    (root / "keys" / "log.key").write_bytes(b"secret")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "control.sock"))
        listener.listen()
        yield root


def told(act: str, home: Path) -> str:
    return f"misbehave: {act} {home}"


@pytest.mark.parametrize("act", ACTS)
async def test_each_act_ends_the_worker_and_the_next_one_serves(act: str, tmp_path: Path) -> None:
    """Its caller hears of a failure, the engine of misbehaviour, and everybody after that gets answers."""
    with home_of(tmp_path) as home:
        async with running(PROGRAM) as (engine, events):
            with pytest.raises(Unavailable) as failed:
                await collect(engine, ask(told(act, home)))
            assert failed.value.code == "engine_failed"
            await until(lambda: engine.is_ready)
            assert (await collect(engine, ask("echo: again")))[0] == "again"
        failures = [each.code for each in events if isinstance(each, ModelFailed)]
        assert failures == [conduct.MISBEHAVED]
        assert not (home / "written").exists()


@pytest.mark.parametrize("act", ACTS)
async def test_without_the_sandbox_each_act_succeeds(act: str, tmp_path: Path) -> None:
    """The control: what ends a worker above is nothing but its sandbox."""
    if act in ROOTS and os.geteuid() != 0:
        missing("only root may do this anyway")
    with home_of(tmp_path) as home:
        async with running(CONTROL) as (engine, events):
            await collect(engine, ask(told(act, home)))
            assert engine.is_ready
            ready = engine.status.ready
            assert ready is not None
            assert ready.sandbox == ()
        assert not [each for each in events if isinstance(each, ModelFailed)]


async def test_model_whose_workers_misbehave_stays_down(tmp_path: Path) -> None:
    """After three times within an hour nobody starts another one, and what to do is said."""
    with home_of(tmp_path) as home:
        async with running(PROGRAM) as (engine, events):
            for _ in range(conduct.MAX_IN_AN_HOUR):
                await until(lambda: engine.is_ready, 20)
                with pytest.raises(Unavailable):
                    await collect(engine, ask(told("fork", home)))
            await until(lambda: conduct.ADVICE in engine.status.last_error)
            await asyncio.sleep(1)
            assert engine.status.state is State.FAILED
            assert engine.worker_pid is None
    failures = [each.code for each in events if isinstance(each, ModelFailed)]
    assert failures == [*[conduct.MISBEHAVED] * conduct.MAX_IN_AN_HOUR, conduct.GIVEN_UP]
    assert sum(isinstance(each, ModelLoaded) for each in events) == conduct.MAX_IN_AN_HOUR


def test_the_record_says_so_and_the_gateway_goes_on(tmp_path: Path) -> None:
    """Each time a failure and an alarm, then that the model stays down; the log and the rest serve on."""
    running = Gateway(make_home(tmp_path / "home"))
    running.program = (
        *(sys.executable, "-m", "tests.fakes.serve"),
        *("--worker", "tests.fakes.misbehaving_worker"),
    )
    running.start()
    try:
        with running.client(Role.OPERATOR) as operator:
            for number in range(conduct.MAX_IN_AN_HOUR):
                wait_until(lambda number=number: _is_up(operator, restarts=number), seconds=30)
                answer = running.chat(told("read_key", running.home.root))
                assert answer.status_code == 503
                assert answer.json()["error"]["code"] == "engine_failed"
            wait_until(lambda: conduct.ADVICE in operator.get("/readyz").text)
            assert operator.get("/readyz").json()["audit"]["state"] == "ready"
        with running.client() as client:
            assert client.get("/v1/models").status_code == 200
    finally:
        assert running.stop() == 0
    failed = [each["code"] for each in said_of(running.home, Kind.MODEL_FAILED)]
    assert failed == [*[conduct.MISBEHAVED] * conduct.MAX_IN_AN_HOUR, conduct.GIVEN_UP]
    alarms = [str(each["code"]) for each in said_of(running.home, Kind.LOG_ALARM)]
    assert [each for each in alarms if each.startswith("worker_")] == failed  # a test's disk may be full
    assert all("seccomp" in str(each["sandbox"]).split() for each in said_of(running.home, Kind.MODEL_LOADED))
    records.assert_verified(running.home)


def _is_up(operator: httpx.Client, *, restarts: int) -> bool:
    """Whether the worker answers that came after so many others, inside its layers."""
    (model,) = operator.get("/readyz").json()["models"].values()
    if model["state"] != "ready" or model["restarts"] != restarts:
        return False
    assert {"limits", "no_new_privileges", "seccomp"} <= set(model["sandbox"])
    return True


def said_of(home: Home, kind: Kind) -> list[Mapping[str, str | int]]:
    """What the record says in plaintext of one kind, in its order."""
    found = query.search(records.place(home), kind=kind, limit=100)
    return [each.public for each in sorted(found, key=lambda each: each.seq)]
