"""Waiting: gaps between tokens while long prompts arrive, and the first token in a busy room."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

import httpx

from tests.bench import clients, ourselves, rooms, tuning
from tests.bench.figures import Row, Run, percentile
from tests.bench.peers import Server, has_llama_server, llama_server, ours

STREAMS = 6
STREAM_TOKENS = 120
CALM_SECONDS = 5.0  # before anybody arrives, for comparison
WINDOW_SECONDS = 24.0
ARRIVAL_SECONDS = 3.0  # between two long prompts
ARRIVAL_TOKENS = 8
GAP_TARGET = 2.5  # p95 against p50

BUSY_CLIENTS = 8
BUSY_ROOM = 5
BUSY_TOKENS = 48
WARM_REQUESTS = 16
PROBES = 40
PROBE_PAUSE_SECONDS = 0.3
PROBE_TOKENS = 8
TTFT_TARGET = 0.5

# Asks one conversation until a moment, and tells the gaps between the pieces of its answer.
Ask = Callable[[rooms.Messages, int, float], Awaitable[list[float]]]


def run(run: Run) -> list[Row]:
    """Milliseconds, all of them."""
    name = "gaps between tokens"
    rows = [_gaps_row(run, f"{name}, at the worker", asyncio.run(_worker_gaps()), GAP_TARGET)]
    with ours(run.folder(), toml='[audit]\nstream = "final"\n') as server:
        gaps = asyncio.run(_server_gaps(server))
    rows.append(_gaps_row(run, f'{name}, over HTTP, audit.stream "final"', gaps, GAP_TARGET))
    if has_llama_server():
        with llama_server(run.folder(), tuning.best(run, BUSY_CLIENTS)) as server:
            gaps = asyncio.run(_server_gaps(server))
        rows.append(_gaps_row(run, f"{name}, llama-server", gaps, None))
    run.note(
        f"gaps: {STREAMS} streams for {WINDOW_SECONDS:g} s, a prompt of about 700 tokens every "
        f"{ARRIVAL_SECONDS:g} s; not in strict mode, whose segments hide the gaps"
    )
    return [*rows, _busy(run)]


@dataclass(frozen=True)
class _Gaps:
    calm: list[float]
    arriving: list[float]


def _gaps_row(run: Run, label: str, gaps: _Gaps, target: float | None) -> Row:
    calm = percentile(gaps.calm, 0.5) * 1000
    middle, tail, longest = (percentile(gaps.arriving, share) * 1000 for share in (0.5, 0.95, 1))
    run.note(
        f"{label}: p50 {middle:.0f} ms, p95 {tail:.0f} ms, longest {longest:.0f} ms; p50 {calm:.0f} ms "
        "while nobody arrives"
    )
    return Row(f"{label}, p95", "ms", tail, "the same, p50", middle, at_most=target)


async def _worker_gaps() -> _Gaps:
    async with ourselves.engine() as engine:

        async def ask(messages: rooms.Messages, max_tokens: int, until: float) -> list[float]:
            return (await ourselves.hear(engine, messages, max_tokens=max_tokens, until=until)).gaps

        return await _gaps(ask)


async def _server_gaps(server: Server) -> _Gaps:
    async with clients.visiting(server) as client:

        async def ask(messages: rooms.Messages, max_tokens: int, until: float) -> list[float]:
            return (await clients.listen(client, messages, max_tokens=max_tokens, until=until)).gaps

        return await _gaps(ask)


async def _gaps(ask: Ask) -> _Gaps:
    numbers = itertools.count()
    await _window(ask, numbers, seconds=1, arrivals=False)  # the first answers warm everything
    calm = await _window(ask, numbers, seconds=CALM_SECONDS, arrivals=False)
    return _Gaps(calm, await _window(ask, numbers, seconds=WINDOW_SECONDS, arrivals=True))


async def _window(ask: Ask, numbers: Iterator[int], *, seconds: float, arrivals: bool) -> list[float]:
    """Streams that follow one another in each place, and long prompts that arrive meanwhile."""
    end = time.monotonic() + seconds
    found: list[float] = []

    async def place() -> None:
        while time.monotonic() < end:
            found.extend(await ask(rooms.story(next(numbers)), STREAM_TOKENS, end))

    async def arrive() -> None:
        async with asyncio.TaskGroup() as group:
            while time.monotonic() + ARRIVAL_SECONDS < end:
                await asyncio.sleep(ARRIVAL_SECONDS)
                group.create_task(_discard(ask(rooms.letter(next(numbers)), ARRIVAL_TOKENS, end)))

    await asyncio.gather(*(place() for _ in range(STREAMS)), *([arrive()] if arrivals else []))
    return found


async def _discard(asked: Awaitable[list[float]]) -> None:
    await asked


def _busy(run: Run) -> Row:
    """p95 of the time to the first piece of a short question, in strict mode on our side."""
    with ours(run.folder()) as server:
        mine = percentile(asyncio.run(_probe(run, server)), 0.95) * 1000
    label = f"first token in a busy room of {BUSY_CLIENTS}, p95"
    if not has_llama_server():
        return Row(label, "ms", mine)
    # One slot more than the room has clients, so that the question need not wait for one.
    best = tuning.best(run, 2 * BUSY_CLIENTS)
    with llama_server(run.folder(), best) as server:
        peer = percentile(asyncio.run(_probe(run, server)), 0.95) * 1000
    return Row(label, "ms", mine, "llama-server", peer, at_most=TTFT_TARGET)


async def _probe(run: Run, server: Server) -> list[float]:
    room = rooms.room(BUSY_ROOM)
    numbers = itertools.count()
    async with clients.visiting(server) as client:

        async def asks(count: int) -> None:
            for _ in range(count):
                await clients.listen(client, room.messages(next(numbers)), max_tokens=BUSY_TOKENS)

        await asyncio.gather(*(asks(WARM_REQUESTS // BUSY_CLIENTS) for _ in range(BUSY_CLIENTS)))
        crowd = [asyncio.create_task(_forever(client, room, numbers)) for _ in range(BUSY_CLIENTS)]
        try:
            found = []
            for _ in range(PROBES):
                await asyncio.sleep(PROBE_PAUSE_SECONDS)
                messages = room.messages(next(numbers))
                found.append((await clients.listen(client, messages, max_tokens=PROBE_TOKENS)).ttft)
        finally:
            for task in crowd:
                task.cancel()
            await asyncio.gather(*crowd, return_exceptions=True)
    run.say(f"{server.name}: first token p50 {percentile(found, 0.5) * 1000:.0f} ms in a busy room")
    return found


async def _forever(client: httpx.AsyncClient, room: rooms.Room, numbers: itertools.count[int]) -> None:
    while True:
        await clients.listen(client, room.messages(next(numbers)), max_tokens=BUSY_TOKENS)
