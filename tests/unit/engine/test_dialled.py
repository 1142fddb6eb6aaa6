"""Workers that somebody else starts, behind a socket: systemd's own program hands them out here."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.clock import SystemClock
from appliance.core import ModelSpec, Started
from appliance.engine import dialled, resident, supervisor
from appliance.engine.dialled import DialledWorker
from appliance.engine.events import EngineEvent, ModelFailed, ModelLoaded, ModelUnloaded
from appliance.engine.messages import LoadModel
from appliance.engine.status import State
from appliance.engine.supervisor import Engine
from appliance.engine_settings import Engine as EngineSettings
from appliance.errors import Unavailable
from tests.activation import handing_out, is_gone, needs_systemd, wait
from tests.unit.engine.test_supervisor import SPEC, ask, collect, until

ROOT = Path(__file__).resolve().parent.parent.parent.parent
pytestmark = [needs_systemd]


@asynccontextmanager
async def running(
    path: Path, spec: ModelSpec = SPEC, *, seconds: float = 20, **options: Any
) -> AsyncIterator[tuple[Engine, list[EngineEvent]]]:
    events: list[EngineEvent] = []
    settings = msgspec.structs.replace(EngineSettings(), worker_socket=str(path), **options)
    engine = Engine(spec, settings, clock=SystemClock(), on_event=events.append, command=("/nowhere",))
    await engine.start()
    try:
        await engine.wait_ready(seconds)
        yield engine, events
    finally:
        await engine.stop()


def pid_of(engine: Engine) -> int:
    assert engine.worker_pid is not None
    return engine.worker_pid


async def test_life_and_events(tmp_path: Path) -> None:
    """It is asked for by connecting, answers, says its process, and is gone after stop."""
    with handing_out(tmp_path / "worker.sock") as path:
        async with running(path) as (engine, events):
            pid = pid_of(engine)
            assert (await collect(engine, ask("echo: hi")))[0] == "hi"
            assert engine.status.state is State.READY
            assert not is_gone(pid)
        await until(lambda: is_gone(pid))
    assert [type(event) for event in events] == [ModelLoaded, ModelUnloaded]


async def test_it_says_what_memory_it_holds(tmp_path: Path) -> None:
    """The gateway may not look at another user's process: from the first word on the worker says it."""
    with handing_out(tmp_path / "worker.sock") as path:
        async with running(path) as (engine, _):
            at_first = engine.worker_bytes
            await collect(engine, ask("echo: hi"))
            await until(lambda: engine.status.stats is not None)
            seen = resident.of(pid_of(engine))
            assert at_first is not None
            assert engine.worker_bytes == pytest.approx(seen, rel=0.2) == pytest.approx(at_first, rel=0.2)
        assert engine.worker_bytes is None


async def test_death_fails_its_requests_and_is_repaired(tmp_path: Path) -> None:
    """Callers hear of it within a second; the next connection is the next worker."""
    with handing_out(tmp_path / "worker.sock") as path:
        async with running(path) as (engine, events):
            stream = engine.generate(ask("please be slow; say 400 tokens"))
            assert isinstance(await anext(stream), Started)
            first = pid_of(engine)
            os.kill(first, signal.SIGKILL)
            with pytest.raises(Unavailable) as failed:
                async with asyncio.timeout(1):
                    async for _ in stream:
                        pass
            assert failed.value.code == "engine_failed"
            await until(lambda: engine.status.last_error != "")
            assert "journalctl" in engine.status.last_error
            await until(lambda: engine.is_ready)
            assert (await collect(engine, ask("echo: again")))[0] == "again"
            assert pid_of(engine) != first
            assert engine.status.restarts == 1
    assert [type(event) for event in events] == [ModelLoaded, ModelFailed, ModelLoaded, ModelUnloaded]


async def test_program_that_dies_at_once_is_tried_again_with_pauses(tmp_path: Path) -> None:
    """A unit whose program can not be executed is the same as a model that can not be loaded."""
    with handing_out(tmp_path / "worker.sock", (sys.executable, "-c", "raise SystemExit(3)")) as path:
        async with running(path) as (engine, events):
            assert engine.status.last_error.startswith("the worker ended while it was loading: ")
            await until(lambda: engine.status.restarts >= 2)
    assert {type(event) for event in events} == {ModelFailed, ModelUnloaded}


async def test_nobody_at_the_socket(tmp_path: Path) -> None:
    """A socket that is not there is told by its path, and tried again until it is."""
    path = tmp_path / "worker.sock"
    async with running(path, restart_backoff_max_seconds=1) as (engine, _):
        assert engine.status.last_error == f"the worker can not be started: {path}: No such file or directory"
        with handing_out(path):
            await until(lambda: engine.is_ready)
            assert (await collect(engine, ask("echo: hi")))[0] == "hi"
            await engine.stop()


async def test_stopped_worker_is_killed_by_the_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No thread of it runs and no signal is sent to it: letting go of the leash is enough."""
    monkeypatch.setattr(supervisor, "STOP_GRACE_SECONDS", 0.3)
    with handing_out(tmp_path / "worker.sock") as path:
        async with running(path) as (engine, _):
            pid = pid_of(engine)
            os.kill(pid, signal.SIGSTOP)
            await engine.stop()
            await until(lambda: is_gone(pid))


def test_gateway_that_is_killed_takes_its_worker_with_it(tmp_path: Path) -> None:
    """Also one that can not read its socket: the kernel lets go for the dead."""
    program = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from tests.unit.engine.test_dialled import pid_of, running\n"
        "async def main():\n"
        "    async with running(Path(sys.argv[1])) as (engine, _):\n"
        "        print(pid_of(engine), flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    with handing_out(tmp_path / "worker.sock") as path:
        gateway = subprocess.Popen(
            [sys.executable, "-c", program, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        with gateway:
            assert gateway.stdout is not None
            pid = int(gateway.stdout.readline())
            os.kill(pid, signal.SIGSTOP)
            assert not is_gone(pid)
            gateway.kill()
        for _ in range(100):
            if is_gone(pid):
                break
            wait()
        assert is_gone(pid)


async def test_socket_of_a_stranger_is_not_spoken_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts go there: whoever opened it must be root, or the gateway's own user."""
    path = tmp_path / "worker.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        monkeypatch.setattr(os, "geteuid", lambda: 4711)
        monkeypatch.setattr(dialled, "ROOT", 4712)
        with pytest.raises(OSError, match=f"opened by user {os.getuid()}"):
            await DialledWorker.dial(path, LoadModel("fake", "", 4096, 2, 64, 1, 1, 0, 4, 150_000, 0))
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(1) == b""


async def test_worker_without_a_leash_does_not_serve(tmp_path: Path) -> None:
    """Whoever connects and sends messages at once is no gateway of ours."""
    with handing_out(tmp_path / "worker.sock") as path, socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(10)
        caller.connect(str(path))
        caller.sendall(b"\x00\x00\x00\x01\xc0")

        with _either():
            assert caller.recv(1) == b""


@contextmanager
def _either() -> Iterator[None]:
    """End of file, or a reset where what was sent was never read."""
    try:
        yield
    except ConnectionResetError:
        return
