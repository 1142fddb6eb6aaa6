"""A worker's process: whoever is stopped while it begins leaves none behind."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import pytest

from appliance.engine.channel import AsyncChannel
from appliance.engine.messages import LoadModel
from appliance.engine.process import WorkerProcess

SLEEPER = (sys.executable, "-c", "import time; time.sleep(600)")
LOAD = LoadModel("fake", "", 4096, 2, 64, 1, 1, 0, 4, 150_000, 0)


async def test_a_start_that_is_given_up_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the process's birth and its channel nobody else knows it yet."""
    is_born = asyncio.Event()
    born: list[int] = []
    spawned = asyncio.create_subprocess_exec

    async def watched(*words: Any, **options: Any) -> asyncio.subprocess.Process:
        made = await spawned(*words, **options)
        born.append(made.pid)
        is_born.set()
        return made

    async def never(*_: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio, "create_subprocess_exec", watched)
    monkeypatch.setattr(AsyncChannel, "over", never)
    starting = asyncio.create_task(WorkerProcess.spawn(SLEEPER, LOAD))
    await is_born.wait()
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting

    with pytest.raises(ProcessLookupError):
        os.kill(born[0], 0)


async def test_who_is_stopped_at_the_workers_end_stops() -> None:
    """Whenever a cancellation comes: the keeper of a worker that just died must not start another one."""
    for steps in range(12):
        spawned = await WorkerProcess.spawn((sys.executable, "-c", ""), LOAD)
        await spawned.wait()
        over: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        spawned.wait = lambda over=over: over  # type: ignore[method-assign,misc]
        ending = asyncio.create_task(spawned.end(grace_seconds=5))
        await asyncio.sleep(0.001)
        over.set_result(0)
        for _ in range(steps):
            await asyncio.sleep(0)
        if ending.cancel():
            with pytest.raises(asyncio.CancelledError):
                await ending
